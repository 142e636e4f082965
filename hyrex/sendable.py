"""Sending a task, and making it a node of a workflow: what `HyrexTask` and the result of `with_config` share.

Nothing here knows how a task reaches a broker.
"""

import functools
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar
from uuid import UUID

from hyrex.arguments.coder import TaskCoder
from hyrex.backend.send_spec import SendSpec
from hyrex.call import TaskCall
from hyrex.errors import loaded
from hyrex.given_options import with_given
from hyrex.options import UNSET, OnFull, SendOptions, TaskConfig, Unset
from hyrex.other_names import OF_TASKS, knows_its_options, missing
from hyrex.queue import HyrexQueue
from hyrex.workflows.linkable import Linkable

if TYPE_CHECKING:
    from types import ModuleType

    from hyrex.handle import TaskHandle
    from hyrex.transactional import TransactionalTask
    from hyrex.workflows.node import WorkflowNode

__all__ = ["ConfiguredTask", "Sendable"]

P = ParamSpec("P")
R = TypeVar("R")


@functools.cache
def _sending() -> "ModuleType":
    """The module hyrex.sending, imported when the first task is sent."""
    return loaded("hyrex.sending")


class Sendable(Linkable, Generic[P, R]):
    """A task with a configuration: the methods that send it."""

    config: TaskConfig
    options: SendOptions
    _spec: SendSpec
    _coder: TaskCoder

    def send(self, /, *args: P.args, **kwargs: P.kwargs) -> "TaskHandle[R]":
        """Store the task and return its handle; once this returns, the task cannot be lost.

        Raises ArgumentInvalid or PayloadTooLarge before anything is sent, BrokerUnavailable if no broker was
        reachable within HYREX_SEND_TIMEOUT, SubmitUnknown if it was sent and no answer came in that time.
        """
        payload = self._coder.encode_arguments(*args, **kwargs)
        handle: TaskHandle[R] = _sending().send_one(self._spec.keyed(payload), payload)
        return handle

    async def send_async(self, /, *args: P.args, **kwargs: P.kwargs) -> "TaskHandle[R]":
        """As send(), without blocking the running loop."""
        payload = self._coder.encode_arguments(*args, **kwargs)
        handle: TaskHandle[R] = await _sending().send_one_async(self._spec.keyed(payload), payload)
        return handle

    def call(self, /, *args: P.args, **kwargs: P.kwargs) -> TaskCall[R]:
        """A validated and encoded call, for send_many."""
        payload = self._coder.encode_arguments(*args, **kwargs)
        return TaskCall(self._spec.keyed(payload), payload)

    def node(self, /, *args: P.args, **kwargs: P.kwargs) -> "WorkflowNode[R]":
        """Make a node of the workflow whose body calls this. Each argument is a value, or the `.result` of
        another node, or a list of these. Raises WorkflowInvalid."""
        made: WorkflowNode[R] = loaded("hyrex.workflows.building").made_node(self, args, kwargs)
        return made

    def _nodes(self) -> Sequence[Any]:
        return (loaded("hyrex.workflows.building").bare_node(self),)

    def on(self, connection: object, *, schema: str | None = None) -> "TransactionalTask[P, R]":
        """Send in the transaction of a connection to the brokers' database: `task.on(connection).send(...)`.

        It takes connections of psycopg 3, asyncpg, SQLAlchemy (also sessions) and Django. `schema`: that of
        the brokers, if HYREX_SCHEMA does not say it. Raises UnknownConnection.
        """
        made: TransactionalTask[P, R] = loaded("hyrex.transactional").TransactionalTask(
            self._spec, self._coder, connection, schema
        )
        return made

    if not TYPE_CHECKING:  # a checker finds such a name by itself

        def __getattr__(self, name: str) -> object:
            """Called for what is not there: say what another library's name is called here."""
            raise missing(self, name, OF_TASKS)

    @knows_its_options
    def with_config(
        self,
        *,
        queue: str | HyrexQueue | Unset = UNSET,
        priority: int | Unset = UNSET,
        max_retries: int | Unset = UNSET,
        timeout_seconds: float | timedelta | Unset | None = UNSET,
        expires_in: float | timedelta | Unset | None = UNSET,
        idempotency_key: str | Unset | None = UNSET,
        delay: float | timedelta | Unset | None = UNSET,
        run_at: datetime | Unset | None = UNSET,
        debounce_key: str | Unset | None = UNSET,
        debounce_max_wait: float | timedelta | Unset | None = UNSET,
        headers: Mapping[str, str] | Unset = UNSET,
        labels: Mapping[str, str] | Unset = UNSET,
        concurrency_key: str | int | UUID | Unset | None = UNSET,
        max_per_key: int | Unset = UNSET,
        on_full: OnFull | Unset = UNSET,
        fair_key: str | int | UUID | Unset | None = UNSET,
    ) -> "ConfiguredTask[P, R]":
        """Return a wrapper that sends this task with these options; options left out stay as they are."""
        given = {
            "queue": queue,
            "priority": priority,
            "max_retries": max_retries,
            "timeout_seconds": timeout_seconds,
            "expires_in": expires_in,
            "idempotency_key": idempotency_key,
            "delay": delay,
            "run_at": run_at,
            "debounce_key": debounce_key,
            "debounce_max_wait": debounce_max_wait,
            "headers": headers,
            "labels": labels,
            "concurrency_key": concurrency_key,
            "max_per_key": max_per_key,
            "on_full": on_full,
            "fair_key": fair_key,
        }
        config, sent = with_given(self.config, self.options, given)
        if sent.debounce_key is not None and config.expires_in is not None:
            raise ValueError(
                "give debounce_key or expires_in, not both; expires_in=None takes that of the task away"
            )
        return ConfiguredTask(SendSpec(self._spec.task, config, sent))


class ConfiguredTask(Sendable[P, R]):
    """A task with options that differ from its own; made by with_config."""

    def __init__(self, spec: SendSpec) -> None:
        self.config = spec.config
        self.options = spec.options
        self._spec = spec
        self._coder = spec.task._coder

    def __reduce__(self) -> tuple[Any, ...]:
        return ConfiguredTask, (self._spec,)

    def __copy__(self) -> "ConfiguredTask[P, R]":
        return self

    def __deepcopy__(self, memo: object) -> "ConfiguredTask[P, R]":
        return self

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call the function directly; options have no effect on that."""
        return self._spec.task(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<task {self.config.name} with {self.config} {self.options}>"
