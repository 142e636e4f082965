"""Sends in a transaction of the caller's: `task.on(connection).send(...)` inserts what commits with it."""

from functools import partial
from typing import Generic, ParamSpec, TypeVar

from hyrex.arguments.coder import TaskCoder
from hyrex.backend.around_sends import hooks_around, store_within, store_within_async
from hyrex.backend.encoding import encoded, off_loop
from hyrex.backend.outgoing import Outgoing, prepare
from hyrex.backend.send_spec import SendSpec
from hyrex.backend.tracing import tracer_here
from hyrex.codec import CODECS
from hyrex.handle import TaskHandle
from hyrex.transactions.connections import AsyncUser, SyncUser, user_of
from hyrex.transactions.statement import Enqueue, refuse_keys, schema_here

__all__ = ["TransactionalTask"]

P = ParamSpec("P")
R = TypeVar("R")


class TransactionalTask(Generic[P, R]):
    """A task that is sent in a transaction; made by `on`. It may be used as long as the connection is."""

    def __init__(self, spec: SendSpec, coder: TaskCoder, connection: object, schema: str | None) -> None:
        """Raises UnknownConnection."""
        self._spec = spec
        self._coder = coder
        self._schema = schema_here(schema)
        self._user = user_of(connection)

    def send(self, /, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """Enqueue the task in the connection's transaction: it exists when that has committed.

        Raises ArgumentInvalid or PayloadTooLarge, ValueError for a debounce key,
        NotInTransaction, OutboxUnavailable if the database has no Hyrex or does not let this role enqueue,
        SendRejected if it refuses the task, and what the library raises. An error of the database's ends the
        transaction.
        """
        user = self._user
        if not isinstance(user, SyncUser):
            raise TypeError(f"{user.name} is used with `await`: call send_async() instead of send()")
        payload = self._coder.encode_arguments(*args, **kwargs)
        spec = self._spec.keyed(payload)
        refuse_keys(spec)
        task = prepare(spec, encoded(spec, payload) if CODECS else payload)
        hooks = hooks_around((spec,), tracer_here())
        if hooks is None:
            user.enqueue(Enqueue.of(task, self._schema))
        else:
            store_within(hooks, task, lambda: user.enqueue(Enqueue.of(task, self._schema)))
        return self._handle(task)

    async def send_async(self, /, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """As send(), for a connection that is used with `await`."""
        user = self._user
        if not isinstance(user, AsyncUser):
            raise TypeError(f"{user.name} is used without `await`: call send() instead of send_async()")
        payload = self._coder.encode_arguments(*args, **kwargs)
        spec = self._spec.keyed(payload)
        refuse_keys(spec)
        if CODECS:
            payload = await off_loop([spec], partial(encoded, spec, payload))
        task = prepare(spec, payload)
        hooks = hooks_around((spec,), tracer_here())
        if hooks is None:
            await user.enqueue(Enqueue.of(task, self._schema))
        else:
            await store_within_async(hooks, task, lambda: user.enqueue(Enqueue.of(task, self._schema)))
        return self._handle(task)

    def _handle(self, task: Outgoing) -> TaskHandle[R]:
        """A handle that cannot send the task again: whether it exists is the transaction's matter."""
        return TaskHandle(task.task_id, self._spec.config.name, decode=self._spec.task._decode_result)
