"""What the stream process and a child say to each other, and how it is framed.

A frame is a four-byte length and a msgpack array of messages; whatever is ready goes into one
frame. Neither side knows wire types. The bytes cross a socket pair that only these two hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct as Layout

import msgspec
from msgspec import Struct

from hyrex.worker.shared.outcome import Ending, ErrorInfo, StopCause

LENGTH = Layout("<I")


class Run(Struct, frozen=True, array_like=True, gc=False):
    """A run to execute, with its lease's token. Empty strings and 0 mean absent."""

    token: int
    task_id: str
    name: str
    queue: str
    payload: bytes
    run_number: int = 0
    attempt_number: int = 0
    max_retries: int = 0
    priority: int = 5
    timeout_ns: int = 0
    parent_id: str = ""
    root_id: str = ""
    submitted_ns: int = 0
    alone: bool = False
    content_type: str = ""
    codec: str = ""
    headers: dict[str, str] | None = None
    told: ErrorInfo | None = None  # its outcome is settled: only its error handler is to hear of this


class TaskInfo(Struct, frozen=True, array_like=True):
    """What a Hello says of one registered function. `timeout_s` 0 means none."""

    name: str
    queue: str
    is_async: bool
    max_concurrency: int = 0
    max_retries: int = 0
    timeout_s: float = 0.0
    priority: int = 5
    handles_errors: bool = False


class QueueInfo(Struct, frozen=True, array_like=True):
    """A queue that the user's code declares."""

    name: str
    concurrency_limit: int = 0


# From the stream process to a child.


class Begin(Struct, frozen=True, array_like=True, tag="begin"):
    """Be a child of this kind; sent once, after Imported."""

    asynchronous: bool
    slots: int


class Give(Struct, frozen=True, array_like=True, tag="give"):
    """Runs to execute in order; the first has this ordinal, the next ones count on."""

    first_ordinal: int
    runs: list[Run]


class TakeBack(Struct, frozen=True, array_like=True, tag="take"):
    """Give back those of these runs that have not started."""

    tokens: list[int]


class Stop(Struct, frozen=True, array_like=True, tag="stop"):
    """Stop one run: drop it if it has not started, else ask its code to end."""

    token: int
    cause: StopCause
    reason: str


class Finish(Struct, frozen=True, array_like=True, tag="finish"):
    """No more runs will come: end when the last one has."""


class WaitAnswer(Struct, frozen=True, array_like=True, tag="waitanswer"):
    """May a run of this child block in a wait? `refusal` says why not."""

    request: int
    refusal: str = ""


ToChild = Begin | Give | TakeBack | Stop | Finish | WaitAnswer

# From a child to the stream process.


class Imported(Struct, frozen=True, array_like=True, tag="imported"):
    """The user's module is imported; this is what it registers."""

    tasks: list[TaskInfo]
    queues: list[QueueInfo]


class Unusable(Struct, frozen=True, array_like=True, tag="unusable"):
    """The user's module cannot be imported, or its lifespan failed; the text is for people."""

    text: str


class Ready(Struct, frozen=True, array_like=True, tag="ready"):
    """The lifespan is entered; runs may come."""


class Settled(Struct, frozen=True, array_like=True, tag="settled"):
    """A run's outcome is settled, whatever becomes of its error handler, which runs now. Ended follows."""

    ending: Ending


class Ended(Struct, frozen=True, array_like=True, tag="ended"):
    """Runs that ended."""

    endings: list[Ending]


class Returned(Struct, frozen=True, array_like=True, tag="returned"):
    """Runs that had not started and will not here. `answer`: answers a TakeBack."""

    tokens: list[int]
    answer: bool


class Waiting(Struct, frozen=True, array_like=True, tag="waiting"):
    """A run is about to block in a wait and asks leave; answered by WaitAnswer."""

    request: int


class Resumed(Struct, frozen=True, array_like=True, tag="resumed"):
    """That wait is over."""

    request: int


FromChild = Imported | Unusable | Ready | Settled | Ended | Returned | Waiting | Resumed

_encoder = msgspec.msgpack.Encoder()


def encode(messages: list[ToChild] | list[FromChild]) -> bytes:
    """One frame."""
    body = _encoder.encode(messages)
    return LENGTH.pack(len(body)) + body


def cut(buffer: bytearray) -> Iterator[bytes]:
    """Take the complete frames' bodies off the front of the buffer."""
    start, end = 0, len(buffer)
    while end - start >= LENGTH.size:
        (size,) = LENGTH.unpack_from(buffer, start)
        if end - start - LENGTH.size < size:
            break
        start += LENGTH.size + size
        yield bytes(buffer[start - size : start])
    if start:
        del buffer[:start]


decode_to_child = msgspec.msgpack.Decoder(list[ToChild]).decode
decode_from_child = msgspec.msgpack.Decoder(list[FromChild]).decode
