"""Concurrency keys of tasks that run in place: those that run hold them, one within the other."""

from collections.abc import Iterator
from contextlib import contextmanager

from hyrex.backend.outgoing import Outgoing
from hyrex.errors import KeyBusy

__all__ = ["HeldKeys"]


class HeldKeys:
    """The keys of what runs now."""

    def __init__(self) -> None:
        self._running: list[tuple[tuple[str, ...], str]] = []

    def refusal(self, outgoing: Outgoing) -> KeyBusy | None:
        """The refusal of a task whose key has its maximum: of those that run, which send it. One that would
        wait runs all the same, since they wait for it."""
        key, options = _key(outgoing), outgoing.spec.options
        holders = [task_id for held, task_id in self._running if held == key]
        if options.on_full != "refuse" or not options.concurrency_key or len(holders) < options.max_per_key:
            return None
        name, most = outgoing.spec.config.name, options.max_per_key
        return KeyBusy(
            f"concurrency key {options.concurrency_key!r} of {name} has its maximum of {most}, and task"
            f" {holders[0]} holds it",
            "KEY_BUSY",
            {"key": options.concurrency_key, "limit": str(most), "holder": holders[0]},
        )

    @contextmanager
    def held(self, outgoing: Outgoing) -> Iterator[None]:
        """Have a task hold its key while the context lasts."""
        holds = (_key(outgoing), outgoing.task_id)
        self._running.append(holds)
        try:
            yield
        finally:
            self._running.remove(holds)


def _key(outgoing: Outgoing) -> tuple[str, ...]:
    """The concurrency key of a task, with the queue and the name that it belongs to."""
    config, key = outgoing.spec.config, outgoing.spec.options.concurrency_key
    return (config.queue, config.name, key) if isinstance(key, str) else ()
