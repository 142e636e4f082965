"""Makes functions into tasks.

Constructing a registry and decorating functions touches neither network, signals nor environment.
"""

import inspect
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar, cast, overload

from hyrex.arguments.signature import local_names
from hyrex.definition import (
    TaskOptions,
    anything,
    approval_options,
    check_schedulable,
    checked_function,
    task_name,
)
from hyrex.errors import DefinitionError, DuplicateTask
from hyrex.middleware import Middleware, Stack
from hyrex.options import UNSET, Backoff, KeyOf, OnError, OnFull, Unset
from hyrex.queue import HyrexQueue
from hyrex.schedules import Schedules
from hyrex.task import ApprovalTask, AsyncHyrexTask, HyrexTask, RemoteTask
from hyrex.workflows.definition import WorkflowDecorator, WorkflowDefinition, definition_of
from hyrex.workflows.workflow import HyrexWorkflow

__all__ = ["HyrexRegistry"]

P = ParamSpec("P")
R = TypeVar("R")


class HyrexRegistry:
    """Tasks by name, with defaults for options that a task leaves out. Registries can be nested."""

    def __init__(
        self,
        *,
        queue: str | HyrexQueue | Unset = UNSET,
        max_retries: int | Unset = UNSET,
        priority: int | Unset = UNSET,
    ) -> None:
        self._defaults = TaskOptions(queue=queue, max_retries=max_retries, priority=priority)
        self._defaults.config("defaults", TaskOptions())
        self._own: dict[str, HyrexTask[..., Any]] = {}
        self._workflows: dict[str, HyrexWorkflow[..., Any]] = {}
        self._queues: list[HyrexQueue] = []
        self._nested: list[HyrexRegistry] = []
        self._stack = Stack()
        self._note_queue(queue)

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncHyrexTask[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> HyrexTask[P, R]: ...
    @overload
    def task(
        self,
        *,
        name: str | None = ...,
        queue: str | HyrexQueue | Unset = ...,
        max_retries: int | Unset = ...,
        timeout_seconds: float | timedelta | None = ...,
        priority: int | Unset = ...,
        retry_backoff: Backoff | None = ...,
        no_retry_on: type[BaseException] | tuple[type[BaseException], ...] = ...,
        on_error: OnError | None = ...,
        max_concurrency: int | None = ...,
        rate: str | None = ...,
        burst: int | None = ...,
        cron: str | None = ...,
        tz: str = ...,
        expires_in: float | timedelta | None = ...,
        headers: Mapping[str, str] = ...,
        labels: Mapping[str, str] = ...,
        concurrency_key: str | KeyOf | None = ...,
        max_per_key: int = ...,
        on_full: OnFull = ...,
        fair_key: str | KeyOf | None = ...,
    ) -> "TaskDecorator": ...
    def task(self, function: Any = None, /, **options: Any) -> Any:  # type: ignore[misc]
        """Make a function a task: `@hy.task`, or `@hy.task(queue=..., max_retries=..., ...)`.

        Raises TypeError for a parameter that cannot be sent, ValueError for an option out of range,
        DuplicateTask for a name that is taken.
        """
        if function is not None and not options:
            return self._define(function, TaskOptions(), HyrexTask, local_names(1))
        decorator = TaskDecorator(self, TaskOptions.given(options))
        return decorator if function is None else decorator(function)

    def remote(self, *, name: str | None = None, **options: Any) -> "RemoteDecorator":
        """Make a stub into a task that other code defines: it has a typed send() and cannot be called."""
        return RemoteDecorator(self, TaskOptions.given({"name": name, **options}))

    @overload
    def workflow(self, body: Callable[P, None], /) -> HyrexWorkflow[P, dict[str, Any]]: ...
    @overload
    def workflow(self, body: Callable[P, R], /) -> HyrexWorkflow[P, R]: ...
    @overload
    def workflow(
        self,
        *,
        name: str | None = ...,
        queue: str | HyrexQueue | Unset = ...,
        priority: int | Unset = ...,
        fail_fast: bool = ...,
        headers: Mapping[str, str] | Unset = ...,
        labels: Mapping[str, str] | Unset = ...,
    ) -> WorkflowDecorator: ...
    def workflow(self, body: Any = None, /, **options: Any) -> Any:  # type: ignore[misc]
        """Make a function whose body wires tasks a workflow: `@hy.workflow`, or `@hy.workflow(queue=...,
        ...)`.

        A body without parameters runs now, and what is wrong with it is told now; one with parameters runs
        at each send. Raises WorkflowInvalid, TypeError or ValueError for an option, DuplicateTask for a
        name that is taken.
        """
        definition = definition_of(options)
        if body is not None:
            return self._define_workflow(body, definition, local_names(1))
        return WorkflowDecorator(self._define_workflow, definition)

    @overload
    def approval(self, name: str, /, **options: Any) -> ApprovalTask[[Any], Any]: ...
    @overload
    def approval(self, function: Callable[P, R], /) -> ApprovalTask[P, R]: ...
    @overload
    def approval(
        self,
        *,
        name: str | None = ...,
        queue: str | HyrexQueue | Unset = ...,
        priority: int | Unset = ...,
        expires_in: float | timedelta | None = ...,
        headers: Mapping[str, str] = ...,
        labels: Mapping[str, str] = ...,
    ) -> "ApprovalDecorator": ...
    def approval(self, function: Any = None, /, **options: Any) -> Any:  # type: ignore[misc]
        """Make a task that no worker runs: it waits until complete() ends it, perhaps with a person's word.

        `@hy.approval` of a stub, which says its arguments and the type of its result; or
        `hy.approval("name")`: it takes any JSON value and ends with any. Raises as task().
        """
        given = approval_options(options)
        if isinstance(function, str):
            return ApprovalDecorator(self, replace(given, name=function))(anything())
        decorator = ApprovalDecorator(self, given)
        return decorator if function is None else decorator(function)

    def add_registry(self, registry: "HyrexRegistry") -> None:
        """Include another registry's tasks, also those that it defines later. Raises DuplicateTask."""
        if not isinstance(registry, HyrexRegistry):
            raise TypeError(f"add_registry() takes a HyrexRegistry, got {registry!r:.200}")
        if self in registry._all_registries():
            raise DefinitionError("a registry cannot contain itself")
        self._nested.append(registry)
        registry._stack.put_below(self._stack)
        _ = self.workflows, self.queues

    def middleware(self, *added: Middleware) -> None:
        """Have these around the runs and sends of all its tasks, those of nested registries included.

        The first one is outermost, below those of registries and apps that contain this one. Raises TypeError
        for what is no Middleware or would be around nothing.
        """
        self._stack.add(added)

    @property
    def tasks(self) -> Mapping[str, HyrexTask[..., Any]]:
        """All tasks by name, those of nested registries included, stubs left out."""
        found: dict[str, HyrexTask[..., Any]] = {}
        for registry in self._all_registries():
            for name, task in registry._own.items():
                if not isinstance(task, RemoteTask) and found.setdefault(name, task) is not task:
                    raise DuplicateTask(name, found[name].place, task.place)
        return MappingProxyType(found)

    @property
    def workflows(self) -> Mapping[str, HyrexWorkflow[..., Any]]:
        """All workflows by name, those of nested registries included."""
        found: dict[str, HyrexWorkflow[..., Any]] = {}
        tasks = self.tasks
        for registry in self._all_registries():
            for name, workflow in registry._workflows.items():
                other = tasks.get(name) or found.setdefault(name, workflow)
                if other is not workflow:
                    raise DuplicateTask(name, other.place, workflow.place)
        return MappingProxyType(found)

    @property
    def queues(self) -> Mapping[str, HyrexQueue]:
        """All queues that were declared with HyrexQueue, by name."""
        found: dict[str, HyrexQueue] = {}
        for registry in self._all_registries():
            for queue in registry._queues:
                if found.setdefault(queue.name, queue) != queue:
                    raise DefinitionError(
                        f"queue {queue.name!r} is declared twice: {found[queue.name]} and {queue}"
                    )
        return MappingProxyType(found)

    @property
    def schedules(self) -> Schedules:
        """Schedules at the broker: put, list, pause, resume, trigger, backfill, delete."""
        return Schedules()

    def _all_registries(self) -> "list[HyrexRegistry]":
        found: list[HyrexRegistry] = [self]
        for registry in found:
            found += [nested for nested in registry._nested if nested not in found]
        return found

    def _define(
        self,
        function: Callable[..., Any],
        options: TaskOptions,
        kind: type[HyrexTask[..., Any]],
        names: Mapping[str, Any] | None,
    ) -> HyrexTask[..., Any]:
        name = task_name(options.name, function)
        is_async = checked_function(function, name)
        if is_async and kind is HyrexTask:
            kind = AsyncHyrexTask
        config = options.config(name, self._defaults)
        if config.cron is not None:
            if kind is RemoteTask:
                raise TypeError(f"task {name}: cron: a remote stub has no schedule; its own code has")
            check_schedulable(function, name)
        task = kind(function, config, names, options.send_options(name))
        task._stack = self._stack
        task.keys_of = options.keys_of(name, function)
        self._require_free(name, task)
        self._own[name] = task
        self._note_queue(options.queue)
        return task

    def _define_workflow(
        self, body: Callable[..., Any], definition: WorkflowDefinition, names: Mapping[str, Any] | None
    ) -> HyrexWorkflow[..., Any]:
        workflow = definition.made(body, self._defaults.queue, self._defaults.priority, names)
        self._require_free(workflow.name, workflow)
        workflow._stack = self._stack
        self._workflows[workflow.name] = workflow
        self._note_queue(definition.queue)
        return workflow

    def _require_free(self, name: str, made: HyrexTask[..., Any] | HyrexWorkflow[..., Any]) -> None:
        """Raise DuplicateTask for a name that another task or workflow has."""
        earlier = self._own.get(name) or self._workflows.get(name)
        if earlier is not None and not _is_rerun(earlier, made):
            raise DuplicateTask(name, earlier.place, made.place)

    def _note_queue(self, queue: str | HyrexQueue | Unset) -> None:
        if isinstance(queue, HyrexQueue) and queue not in self._queues:
            self._queues.append(queue)


class TaskDecorator:
    """What `hy.task(...)` returns: the decorator with its options."""

    def __init__(self, registry: HyrexRegistry, options: TaskOptions) -> None:
        self._registry = registry
        self._options = options

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncHyrexTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> HyrexTask[P, R]: ...
    def __call__(self, function: Any, /) -> Any:
        return self._registry._define(function, self._options, HyrexTask, local_names(1))


class RemoteDecorator:
    """What `hy.remote(...)` returns: the decorator with its options."""

    def __init__(self, registry: HyrexRegistry, options: TaskOptions) -> None:
        self._registry = registry
        self._options = options

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> RemoteTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> RemoteTask[P, R]: ...
    def __call__(self, function: Any, /) -> Any:
        return self._registry._define(function, self._options, RemoteTask, local_names(1))


class ApprovalDecorator:
    """What `hy.approval(...)` returns: the decorator with its options."""

    def __init__(self, registry: HyrexRegistry, options: TaskOptions) -> None:
        self._registry = registry
        self._options = options

    def __call__(self, function: Callable[P, R], /) -> ApprovalTask[P, R]:
        made: Any = self._registry._define(function, self._options, ApprovalTask, local_names(1))
        return cast("ApprovalTask[P, R]", made)


def _is_rerun(
    earlier: HyrexTask[..., Any] | HyrexWorkflow[..., Any],
    task: HyrexTask[..., Any] | HyrexWorkflow[..., Any],
) -> bool:
    """Return True if the same source was compiled and executed again: a notebook cell, or a reloaded module.

    If one compiled function is executed twice (in a loop, or in a function that makes tasks), these are two
    tasks, so this returns False.
    """
    old, new = inspect.unwrap(earlier.function), inspect.unwrap(task.function)
    if (old.__module__, old.__qualname__) != (new.__module__, new.__qualname__):
        return False
    if getattr(old, "__code__", None) is getattr(new, "__code__", None):
        return False
    return earlier.place == task.place or (_is_cell(old) and _is_cell(new))


def _is_cell(function: Callable[..., Any]) -> bool:
    filename = getattr(getattr(function, "__code__", None), "co_filename", "")
    return filename.startswith("<") or "ipykernel" in filename
