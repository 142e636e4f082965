"""Makes a workflow of a function and the options of its decorator."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Final, ParamSpec, TypeVar, overload

from hyrex.arguments.signature import local_names
from hyrex.given_options import with_given
from hyrex.options import DEFAULT_QUEUE, UNSET, SendOptions, TaskConfig, Unset, checked_flag, checked_name
from hyrex.other_names import advice
from hyrex.queue import HyrexQueue
from hyrex.workflows.workflow import HyrexWorkflow

__all__ = ["AT_TIMES", "WorkflowDecorator", "WorkflowDefinition", "definition_of"]

P = ParamSpec("P")
R = TypeVar("R")
AT_TIMES: Final = (
    "with its slot as the idempotency_key: docs/howto/workflows.md, At times of a clock, has the lines"
)
_ELSEWHERE: Final = MappingProxyType(
    {
        "workflow_arg_schema": "give its function a parameter: def NAME(args: MODEL)",
        "timeout_seconds": "give timeout_seconds to its tasks, or cancel the workflow",
        "max_retries": "give it to its tasks; handle.retry_failed() runs bad nodes again",
        "cron": f"give cron to a task that sends the workflow, {AT_TIMES}",
        "tz": f"give cron and tz to a task that sends the workflow, {AT_TIMES}",
        "expires_in": "give expires_in to its tasks",
        "concurrency_key": "give concurrency_key to its tasks",
    }
)
"""What other task queues, or Hyrex 0.10, would have here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowDefinition:
    """The options given to a decorator, unchecked."""

    name: str | None = None
    queue: str | HyrexQueue | Unset = UNSET
    priority: int | Unset = UNSET
    fail_fast: bool = False
    headers: Mapping[str, str] | Unset = UNSET
    labels: Mapping[str, str] | Unset = UNSET

    def made(
        self,
        body: Callable[..., Any],
        queue: str | HyrexQueue | Unset,
        priority: int | Unset,
        names: Mapping[str, Any] | None,
    ) -> HyrexWorkflow[..., Any]:
        """The workflow of a body; `queue` and `priority` where the options name none. Raises TypeError,
        ValueError, WorkflowInvalid."""
        name = checked_name("name", self.name or getattr(body, "__name__", ""))
        _check_body(body, name)
        defaults = {"queue": DEFAULT_QUEUE if isinstance(queue, Unset) else queue, "priority": priority}
        given = {
            "queue": self.queue,
            "priority": self.priority,
            "headers": self.headers,
            "labels": self.labels,
        }
        try:
            config, options = with_given(*with_given(TaskConfig(name), SendOptions(), defaults), given)
            fail_fast = checked_flag("fail_fast", self.fail_fast)
        except (TypeError, ValueError) as error:
            raise type(error)(f"workflow {name}: {error}") from None
        return HyrexWorkflow(body, config, names, options, fail_fast=fail_fast)


def definition_of(options: Mapping[str, Any]) -> WorkflowDefinition:
    """What is given to a decorator. Raises TypeError for what workflows do not have, with what to use
    instead."""
    for option, remedy in _ELSEWHERE.items():
        if option in options:
            raise TypeError(f"hy.workflow has no option {option}: {remedy}")
    known = [each.name for each in fields(WorkflowDefinition)]
    for option in options:
        if option not in known:
            raise TypeError(f"hy.workflow has no option {option}: {advice(option, known)}")
    return WorkflowDefinition(**options)


class WorkflowDecorator:
    """What `hy.workflow(...)` returns: the decorator with its options."""

    def __init__(
        self,
        define: Callable[
            [Callable[..., Any], WorkflowDefinition, Mapping[str, Any] | None], HyrexWorkflow[..., Any]
        ],
        definition: WorkflowDefinition,
    ) -> None:
        self._define = define
        self._definition = definition

    @overload
    def __call__(self, body: Callable[P, None], /) -> HyrexWorkflow[P, dict[str, Any]]: ...
    @overload
    def __call__(self, body: Callable[P, R], /) -> HyrexWorkflow[P, R]: ...
    def __call__(self, body: Any, /) -> Any:
        return self._define(body, self._definition, local_names(1))


def _check_body(body: Callable[..., Any], name: str) -> None:
    """Raise TypeError for what cannot be the body of a workflow."""
    if not inspect.isfunction(body):
        raise TypeError(f"workflow {name or body!r}: only plain functions can be workflows, got {body!r}")
    if (
        inspect.iscoroutinefunction(body)
        or inspect.isgeneratorfunction(body)
        or inspect.isasyncgenfunction(body)
    ):
        raise TypeError(
            f"workflow {name}: its body only wires tasks, so it is a plain `def`, neither async nor a "
            "generator; what waits belongs into a task"
        )
