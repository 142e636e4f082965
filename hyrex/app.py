"""An application: the registries that one worker serves, and what surrounds their runs."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

from hyrex.options import checked_name
from hyrex.queue import HyrexQueue
from hyrex.registry import HyrexRegistry
from hyrex.task import HyrexTask

__all__ = ["HyrexApp", "Lifespan"]

Lifespan = Callable[["HyrexApp"], AbstractContextManager[Any] | AbstractAsyncContextManager[Any]]


class HyrexApp:
    """What `hyrex run-worker module:app` serves.

    `lifespan(app)` gives a context manager, plain or async, entered once in each child process
    before its first run and left after its last.
    """

    def __init__(self, name: str, *, lifespan: Lifespan | None = None) -> None:
        self.name = checked_name("app name", name)
        if lifespan is not None and not callable(lifespan):
            raise TypeError(f"lifespan must be callable, got {lifespan!r}")
        self.lifespan = lifespan
        self._registry = HyrexRegistry()

    def add_registry(self, registry: HyrexRegistry) -> None:
        """Serve a registry's tasks, those defined later too; raises DuplicateTask."""
        self._registry.add_registry(registry)

    @property
    def tasks(self) -> Mapping[str, HyrexTask[..., Any]]:
        """All tasks by name, those of nested registries included."""
        return self._registry.tasks

    @property
    def queues(self) -> Mapping[str, HyrexQueue]:
        """All queues that were declared with HyrexQueue, by name."""
        return self._registry.queues

    def __repr__(self) -> str:
        return f"<app {self.name}: {len(self.tasks)} tasks>"
