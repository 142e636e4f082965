"""What the broker refuses, and why.

BrokerError
├── InvalidField            a field is missing, malformed or out of range
├── PayloadOverLimit
├── TooManyItems
│   └── TooManyQueues       more new queues, or kinds of tasks in them, than may be made in this time
├── TaskIdOutOfWindow       the id's time is too old or too far ahead
├── TaskIdConflict          the id is stored with other content
├── NoSuchTask
├── NoWorkflow              the task is neither a workflow nor a node of one
├── RowRefused              there is no such task, since its row in an outbox was refused
├── QueueNotFound
├── QueueInUse              it has tasks, or had some
├── PeerNotFound            no such worker session, broker or bulk operation
├── PageTokenInvalid
├── TokenRefused            no bearer token, or a wrong one
├── RightMissing            the token is valid, and is not for this
├── TokenExists
├── HelloExpected
├── ProtocolUnsupported
├── SessionEnded
├── SessionTakenOver
├── SessionSecretInvalid
├── FlowControl
├── Overloaded              more bytes in flight than this connection or broker may have; repeat it later
│   └── TooMuchUnread       answers that this connection has not read, or all of them
├── QuotaExceeded           a bound is reached, and room comes by itself; repeat it later
│   └── QueueAtMaximum           as many tasks wait in a queue as may
├── FeatureNotReady         a broker of an earlier version is there, which does not know it
├── KeyAtMaximum                 a concurrency key has its maximum, and the task was not to wait
├── StorageUnavailable      the database did not answer in time; safe to repeat
│   └── LanesClosed             nothing was stored: a lane has to be interned again
├── CellAway                behind a gateway: a cell did not answer, or has no room; safe to repeat
├── SpansCells              asked of a gateway, and about more than one cell
├── SchemaOutOfRange        the database's schema is too old or too new for this broker
└── Draining

broker/hyrex_broker/service/errors.py turns each into a gRPC status and a reason.
"""

from collections.abc import Mapping, Sequence


class BrokerError(Exception):
    """Root of the tree. `metadata` becomes the ErrorInfo's metadata on the wire."""

    def __init__(self, message: str, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = dict(metadata or {})


class InvalidField(BrokerError):
    """A field is missing, malformed or out of range."""

    def __init__(self, field: str, value: object, remedy: str) -> None:
        shown = repr(value)
        shown = shown if len(shown) <= 100 else shown[:97] + "..."
        super().__init__(f"{field} = {shown}: {remedy}", {"field": field, "value": shown})


class PayloadOverLimit(BrokerError):
    """A payload or result is over the limit."""

    def __init__(self, field: str, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"{field} has {size_bytes} bytes, the limit is {limit_bytes}; store large values elsewhere"
            " and send a reference",
            {"field": field, "size_bytes": str(size_bytes), "limit_bytes": str(limit_bytes)},
        )


class TooManyItems(BrokerError):
    """More items in one call than allowed."""

    def __init__(self, count: int, limit: int) -> None:
        super().__init__(
            f"{count} items in one call, the limit is {limit}; split them", {"limit": str(limit)}
        )


class TooManyQueues(TooManyItems):
    """More new queues, or kinds of tasks in them, than may be made in this time: they are for ever."""

    def __init__(self, what: str, limit: int) -> None:
        BrokerError.__init__(
            self,
            f"{what} would be new, and this broker has made {limit} of its kind lately; use fewer queues"
            " (one for a purpose, not one for a task), or repeat it later",
            {"limit": str(limit)},
        )


class TaskIdOutOfWindow(BrokerError):
    """The id's time is outside what the broker accepts."""

    def __init__(self, task_id: str, server_time_ms: int) -> None:
        super().__init__(
            f"task id {task_id} was not made between 24 h ago and 60 s ahead of the server's clock;"
            " make ids with UUIDv7 and a correct clock",
            {"task_id": task_id, "server_time_ms": str(server_time_ms)},
        )


class TaskIdConflict(BrokerError):
    """The id is stored with other content."""

    def __init__(self, task_id: str) -> None:
        super().__init__(
            f"task id {task_id} is stored with other content; make a new id", {"task_id": task_id}
        )


class NoSuchTask(BrokerError):
    """No such task."""

    def __init__(self, task_id: str, carried_by: Sequence[str] = ()) -> None:
        told = (
            f"no task {task_id}; it was never stored, its transaction has not committed, or its retention "
            "is over"
        )
        if carried_by:
            told += (
                "; or it waits in the outbox of another database, where this broker cannot look: ask"
                f" {' or '.join(carried_by)}, or give this broker the same --outbox-url"
            )
        super().__init__(told, {"task_id": task_id})


class NoWorkflow(BrokerError):
    """A task that is neither a workflow nor a node of one."""

    def __init__(self, task_id: str) -> None:
        super().__init__(f"task {task_id} is neither a workflow nor a node of one", {"task_id": task_id})


class RowRefused(BrokerError):
    """There is no such task, since its row in an outbox was refused. `why`: with what to do."""

    def __init__(self, task_id: str, why: str) -> None:
        super().__init__(f"no task {task_id}: {why}", {"task_id": task_id})


class QueueNotFound(BrokerError):
    """No such queue."""

    def __init__(self, queue: str) -> None:
        super().__init__(
            f"no queue {queue!r}; one exists once a task was put in it, or a pause or limit made it",
            {"queue": queue},
        )


class QueueInUse(BrokerError):
    """A queue that has tasks, or had some, cannot be deleted."""

    def __init__(self, queue: str) -> None:
        super().__init__(
            f"queue {queue!r} has tasks, or had some, and they name it: purge or pause it instead",
            {"queue": queue},
        )


class PeerNotFound(BrokerError):
    """No such worker session or broker."""

    def __init__(self, kind: str, identity: str) -> None:
        super().__init__(f"no {kind} {identity}", {"id": identity})


class PageTokenInvalid(BrokerError):
    """A page token that this broker did not make, or made for other filters."""


class TokenRefused(BrokerError):
    """No bearer token, or a wrong one."""


class RightMissing(BrokerError):
    """The caller's token is valid, and lacks a scope, or has it for other queues only."""

    def __init__(self, who: str, scope: str, queue: str | None = None, *, beyond: str = "") -> None:
        """`beyond`: what a queue is called of which the caller may not learn the name."""
        beyond = f"queue {queue!r}" if queue is not None else beyond
        what = f"the scope {str(scope)!r}" + (f" for {beyond}" if beyond else "")
        super().__init__(
            f"token {who!r} lacks {what}; use one that has it (`hyrex token list` shows them)",
            {"scope": scope} | ({"queue": queue} if queue is not None else {}),
        )


class TokenExists(BrokerError):
    """A token that is not revoked has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is a token {name!r}; choose another name, or revoke that one first", {"name": name}
        )


class HelloExpected(BrokerError):
    """The first frame was not Hello, or Hello came twice."""


class ProtocolUnsupported(BrokerError):
    """The peer's protocol version is outside the supported range."""


class SessionEnded(BrokerError):
    """The session has ended or expired."""


class SessionTakenOver(BrokerError):
    """Another stream has resumed this session."""


class SessionSecretInvalid(BrokerError):
    """The session's secret is wrong."""


class FlowControl(BrokerError):
    """More unacknowledged reports, frames or bytes than granted."""


class Overloaded(BrokerError):
    """More bytes in flight than a connection or a broker may have. Safe to repeat, after a moment."""

    def __init__(self, whose: str, in_flight_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"{whose} has {in_flight_bytes} bytes in flight that are not answered yet, the limit is"
            f" {limit_bytes}; wait for answers, then repeat",
            {"limit": str(limit_bytes)},
        )


class TooMuchUnread(Overloaded):
    """Answers that callers asked for and do not read. Safe to repeat, after a moment."""

    def __init__(self, found: str, limit: str) -> None:
        BrokerError.__init__(
            self, f"{found} not read yet, the limit is {limit}; read them, then repeat", {"limit": limit}
        )


class ArrivesSlowly(Overloaded):
    """A message that was still arriving while others waited for its place. Safe to repeat, after a moment."""

    def __init__(self, at_once: int) -> None:
        text = f"others waited while this call was still arriving, {at_once} may at a time; repeat it"
        BrokerError.__init__(self, text, {"limit": str(at_once)})


class QuotaExceeded(BrokerError):
    """A bound is reached, and room comes by itself. Safe to repeat after `retry_after_s`."""

    retry_after_s = 1.0


class QueueAtMaximum(QuotaExceeded):
    """As many tasks wait in a queue as may. Nothing of this one is stored."""

    def __init__(self, queue: str, most: int, retry_after_s: float) -> None:
        super().__init__(
            f"{most} tasks may wait in queue {queue!r}, and so many do; send it again later, start workers,"
            " or have an operator allow more (`hyrex queue max-waiting`)",
            {"queue": queue, "limit": str(most)},
        )
        self.retry_after_s = retry_after_s


class FeatureNotReady(BrokerError):
    """Something that a broker of an earlier version would break. Possible once that one is gone."""

    def __init__(self, feature: str, broker: str, version: str) -> None:
        super().__init__(
            f"{feature} is refused while broker {broker!r} (version {version}) shares the database, which"
            " does not know it: upgrade that broker, or leave it out until then",
            {"feature": feature, "broker": broker, "version": version},
        )


class KeyAtMaximum(BrokerError):
    """As many tasks of a concurrency key run as may, and this one was not to wait. It is not stored."""

    def __init__(self, task: str, key: str, most: int, holder: str | None) -> None:
        super().__init__(
            f"concurrency key {key!r} of task {task} has its maximum of {most}, and task"
            f" {holder or '(just ended)'} holds it; send this one again when that has ended, or let it"
            " wait (on_full)",
            {"key": key, "limit": str(most), "holder": holder or ""},
        )


class StorageUnavailable(BrokerError):
    """The database did not answer in time; nothing is known to be stored. Safe to repeat.

    `conflict`: it did answer, with a deadlock, a serialisation failure or closed lanes; nothing was stored.
    `timed_out`: the statement took longer than it may; if it was large, smaller ones may do.
    `lasts`: the database is there and refuses; so it will until somebody mends it.
    """

    def __init__(
        self,
        message: str,
        *,
        conflict: bool = False,
        timed_out: bool = False,
        lasts: bool = False,
    ) -> None:
        super().__init__(message)
        self.conflict = conflict
        self.timed_out = timed_out
        self.lasts = lasts


class LanesClosed(StorageUnavailable):
    """A statement named a lane in which nobody has stored tasks for long, so nothing was stored. It is
    interned again at the next attempt."""


class SchemaOutOfRange(BrokerError):
    """The database's schema is too old or too new for this broker."""


class Draining(BrokerError):
    """This broker is shutting down."""


class CellAway(BrokerError):
    """Behind a gateway: this cell did not answer in time, or has no room for more; nothing is known to be
    stored. Safe to repeat, after a moment."""

    def __init__(self, cell: str, why: str, *, is_broken_off: bool = False) -> None:
        """`is_broken_off`: the connection broke, and another one may be had at once."""
        super().__init__(f"cell {cell!r}: {why}; repeat it", {"cell": cell})
        self.is_broken_off = is_broken_off


class SpansCells(BrokerError):
    """Asked of a gateway, and about more than one cell, or about one that it cannot know."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what} not served by a gateway: {remedy}", {})
