"""The part of a send that is the same for all sends of one task under one configuration."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from hyrex.arguments.coder import TaskCoder
from hyrex.keys import key_of_call
from hyrex.middleware import Stack
from hyrex.options import CHANGEABLE, KeyOf, SendOptions, TaskConfig, Unset

__all__ = ["SendSpec", "SpecTask"]


class SpecTask(Protocol):
    """The part of a task that a send needs."""

    config: TaskConfig
    is_outside: bool
    keys_of: Mapping[str, KeyOf]
    _coder: TaskCoder
    _stack: Stack

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

    def retry_delay_s(self, retry_number: int) -> float:
        """Seconds before retry number 1, 2, ...; never raises."""

    def _decode_result(self, result: bytes) -> Any:
        """The value of a stored result; raises ResultInvalid."""


class SendSpec:
    """A task, its configuration and the options of its sends. Only `encoded` ever changes.

    In `encoded` the transport keeps the wire form of what is the same for every send. A plain class, since a
    frozen dataclass would take longer to make.
    """

    __slots__ = ("base", "config", "encoded", "options", "task")

    def __init__(
        self, task: SpecTask, config: TaskConfig, options: SendOptions, encoded: bytes | None = None
    ) -> None:
        self.task = task
        self.config = config
        self.options = options
        self.encoded = encoded
        self.base: SendSpec | None = None
        """Another one whose `encoded` counts: specs that differ in their keys share it."""

    def keyed(self, payload: bytes) -> "SendSpec":
        """The spec of a send with these arguments, whose concurrency or fair key depends on them; this one,
        if none does. Raises what the function that makes a key raises."""
        keys_of = self.task.keys_of
        if not keys_of:
            return self
        wanted = [what for what in keys_of if isinstance(getattr(self.options, what), Unset)]
        if not wanted:
            return self
        coder = self.task._coder
        signature, arguments = coder.signature.signature, coder.decode_arguments(payload)
        keys: dict[str, Any] = {
            what: key_of_call(what, keys_of[what], signature, arguments) for what in wanted
        }
        found = SendSpec(self.task, self.config, replace(self.options, **keys))
        found.base = self.base or self
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as the task and what differs from it, so that the task's functions are not pickled.

        The encoded options are pickled too: made again, a random backoff would have other delays.
        """
        own, mine = self.task.config, self.config
        changed = {
            name: getattr(mine, name) for name in CHANGEABLE if getattr(mine, name) != getattr(own, name)
        }
        return _send_spec, (self.task, changed, self.options, (self.base or self).encoded)


def _send_spec(
    task: SpecTask, changed: dict[str, Any], options: SendOptions, encoded: bytes | None
) -> SendSpec:
    return SendSpec(task, replace(task.config, **changed), options, encoded)
