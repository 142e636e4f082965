"""A task to be sent, with all that must stay the same if it is sent again."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, overload

from hyrex.backend.bodies import BODIES, refuse_in_body
from hyrex.backend.ids import ID_BYTES, new_task_id, task_ids
from hyrex.backend.origin import Origin, origin_here
from hyrex.backend.send_spec import SendSpec
from hyrex.errors import HyrexError
from hyrex.runs import TaskSnapshot
from hyrex.status import TaskStatus

__all__ = [
    "Deduplicated",
    "Outgoing",
    "OutgoingBatch",
    "Postponed",
    "Progress",
    "SendResult",
    "Untimely",
    "prepare",
    "prepare_many",
]


class Progress(Enum):
    """How far a task has come."""

    WAITING = "it has not left this process"
    UNANSWERED = "it was sent, and no answer came yet"
    STORED = "the broker has stored it"


@dataclass(frozen=True, slots=True)
class Deduplicated:
    """The task was not stored: its idempotency key belongs to an earlier task, which this describes."""

    task_id: str
    status: TaskStatus | None = None
    """None if the broker did not say."""
    arguments_differ: bool = False
    state: TaskSnapshot | None = None
    """With its runs, if it ran where it was sent (an inline test)."""


@dataclass(frozen=True, slots=True)
class Untimely:
    """Refused at its first attempt for the time in its id. It is not stored, so it may get a new id."""

    error: HyrexError


@dataclass(frozen=True, slots=True)
class Postponed:
    """Refused for now. It may be sent again, no sooner than after so many seconds."""

    error: HyrexError
    retry_after_s: float
    may_be_stored: bool = False
    """False: it is not stored. True: an earlier attempt had no answer, and may have stored it."""


# A TaskSnapshot, if it ran where it was sent (an inline test).
SendResult = Progress | Deduplicated | Untimely | Postponed | TaskSnapshot | HyrexError


class Outgoing:
    """One task to store. A plain class: a frozen dataclass takes three times as long to make."""

    __slots__ = ("origin", "payload", "spec", "task_id")

    def __init__(self, task_id: str, spec: SendSpec, payload: bytes, origin: Origin) -> None:
        self.task_id = task_id
        self.spec = spec
        self.payload = payload
        self.origin = origin

    def __reduce__(self) -> tuple[Any, ...]:
        return Outgoing, (self.task_id, self.spec, self.payload, self.origin)


class OutgoingBatch(Sequence[Outgoing]):
    """Tasks to store, as columns: no task is made before somebody asks for it.

    `ids` holds 16 bytes for each; `specs` has one if all share it, or one for each. Their origin is the same:
    one run sends them.
    """

    __slots__ = ("ids", "origin", "payloads", "specs")

    def __init__(
        self, ids: bytes, specs: Sequence[SendSpec], payloads: Sequence[bytes], origin: Origin
    ) -> None:
        self.ids = ids
        self.specs = specs
        self.payloads = payloads
        self.origin = origin

    def __len__(self) -> int:
        return len(self.payloads)

    @overload
    def __getitem__(self, at: int) -> Outgoing: ...
    @overload
    def __getitem__(self, at: slice) -> "OutgoingBatch": ...
    def __getitem__(self, at: int | slice) -> "Outgoing | OutgoingBatch":
        if isinstance(at, slice):
            places = range(len(self))[at]
            if places.step == 1:
                return self._part(places.start, places.stop)
            return self.at(places)
        place = range(len(self))[at]
        digits = self.ids[ID_BYTES * place : ID_BYTES * (place + 1)].hex()
        task_id = f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
        return Outgoing(task_id, self.spec_at(place), self.payloads[place], self.origin)

    def spec_at(self, place: int) -> SendSpec:
        """The spec of one task."""
        return self.specs[place if len(self.specs) > 1 else 0]

    def _part(self, start: int, stop: int) -> "OutgoingBatch":
        specs = self.specs[start:stop] if len(self.specs) > 1 else self.specs
        ids = self.ids[ID_BYTES * start : ID_BYTES * stop]
        return OutgoingBatch(ids, specs, self.payloads[start:stop], self.origin)

    def at(self, places: Sequence[int]) -> "OutgoingBatch":
        """The tasks at these places."""
        specs = [self.specs[place] for place in places] if len(self.specs) > 1 else self.specs
        ids = b"".join([self.ids[ID_BYTES * place : ID_BYTES * (place + 1)] for place in places])
        payloads = [self.payloads[place] for place in places]
        return OutgoingBatch(ids, specs, payloads, self.origin)

    def renewed(self, places: Sequence[int]) -> "OutgoingBatch":
        """The same with other ids at these places: nothing bears those that they have."""
        ids, fresh = bytearray(self.ids), task_ids.many(len(places))
        for number, place in enumerate(places):
            ids[ID_BYTES * place : ID_BYTES * (place + 1)] = fresh[
                ID_BYTES * number : ID_BYTES * (number + 1)
            ]
        return OutgoingBatch(bytes(ids), self.specs, self.payloads, self.origin)


def prepare_many(specs: Sequence[SendSpec], payloads: Sequence[bytes]) -> OutgoingBatch:
    """Make the tasks of calls, as prepare() makes one. `specs`: one for all, or one for each. Raises
    WorkflowInvalid in the body of a workflow."""
    if BODIES and specs:
        refuse_in_body(specs[0])
    return OutgoingBatch(task_ids.many(len(payloads)), specs, payloads, origin_here())


def prepare(spec: SendSpec, payload: bytes) -> Outgoing:
    """Make the task of a call: with a new id, and with its parent if a running task sends it. Raises
    WorkflowInvalid in the body of a workflow."""
    if BODIES:
        refuse_in_body(spec)
    return Outgoing(new_task_id(), spec, payload, origin_here())
