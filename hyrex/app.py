"""An application: the registries that one worker serves, and a lifespan around their runs."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any

from hyrex.codec import Codec, checked_codecs
from hyrex.middleware import Middleware
from hyrex.options import checked_name
from hyrex.other_names import missing_of_app
from hyrex.queue import HyrexQueue
from hyrex.registry import HyrexRegistry
from hyrex.task import HyrexTask
from hyrex.workflows.workflow import HyrexWorkflow

__all__ = ["HyrexApp", "Lifespan", "middleware_of_tasks"]

Lifespan = Callable[["HyrexApp"], AbstractContextManager[Any] | AbstractAsyncContextManager[Any]]


class HyrexApp:
    """The tasks that `hyrex run-worker module:app` serves.

    `lifespan(app)` returns a context manager, sync or async, which each child process enters before its first
    run and leaves after its last. `codec` encodes arguments and results: one, or several in order.
    """

    def __init__(
        self, name: str, *, lifespan: Lifespan | None = None, codec: Codec | Sequence[Codec] | None = None
    ) -> None:
        self.name = checked_name("app name", name)
        if lifespan is not None and not callable(lifespan):
            raise TypeError(f"lifespan must be callable, got {lifespan!r}")
        self.lifespan = lifespan
        self._registry = HyrexRegistry()
        if (codecs := checked_codecs(codec)) is not None:
            self._registry._stack.encode_by(codecs)

    def add_registry(self, registry: HyrexRegistry) -> None:
        """Serve a registry's tasks, also those that it defines later. Raises DuplicateTask."""
        self._registry.add_registry(registry)

    def middleware(self, *added: Middleware) -> None:
        """Have these around the runs and sends of all its tasks, the first one outermost.

        Raises TypeError for what is no Middleware or would be around nothing.
        """
        self._registry.middleware(*added)

    @property
    def tasks(self) -> Mapping[str, HyrexTask[..., Any]]:
        """All tasks by name, those of nested registries included."""
        return self._registry.tasks

    @property
    def workflows(self) -> Mapping[str, HyrexWorkflow[..., Any]]:
        """All workflows by name, those of nested registries included."""
        return self._registry.workflows

    @property
    def queues(self) -> Mapping[str, HyrexQueue]:
        """All queues that were declared with HyrexQueue, by name."""
        return self._registry.queues

    if not TYPE_CHECKING:  # a checker finds such a name by itself

        def __getattr__(self, name: str) -> object:
            """Called for what is not there: say so of what a registry has, as `@app.task` of Celery."""
            raise missing_of_app(self, name, HyrexRegistry)

    def __repr__(self) -> str:
        return f"<app {self.name}: {len(self.tasks)} tasks>"


def middleware_of_tasks(served: HyrexApp | HyrexRegistry) -> Mapping[str, Sequence[Middleware]]:
    """What is around the runs of each task of an app or a registry that a worker serves, by its name.

    What other apps, which have the same registry, put around its tasks is not among it.
    """
    registry = served._registry if isinstance(served, HyrexApp) else served
    stacks = {each._stack for each in registry._all_registries()}
    found = {name: task._stack.all(stacks) for name, task in registry.tasks.items()}
    return {name: around for name, around in found.items() if around}
