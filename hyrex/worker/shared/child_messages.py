"""The messages between the stream process and a child, and their framing.

A frame is a four-byte length and a msgpack array of messages; all messages that are ready go into one frame.
Nothing here knows the wire types of gRPC. The frames cross a socket pair that only these two processes hold.
"""

from collections.abc import Iterator, Sequence
from struct import Struct as Layout
from typing import Final

import msgspec
from msgspec import Struct

from hyrex.progress import checked_progress
from hyrex.worker.shared.outcome import Ending, StopCause
from hyrex.worker.shared.runs import RunBlock

LENGTH: Final = Layout("<I")


class RateInfo(Struct, frozen=True, array_like=True):
    """So many runs in each period, and so many together after a rest (0: as the broker has it)."""

    count: int
    period_s: int
    burst: int


class TaskInfo(Struct, frozen=True, array_like=True):
    """A registered function, as Hello describes it. A `timeout_s` of 0 means none."""

    name: str
    queue: str
    is_async: bool
    max_concurrency: int = 0
    max_retries: int = 0
    timeout_s: float = 0.0
    priority: int = 5
    handles_errors: bool = False
    rate: RateInfo | None = None


class QueueInfo(Struct, frozen=True, array_like=True):
    """A queue that the user's code declares."""

    name: str
    concurrency_limit: int = 0
    rate: RateInfo | None = None


class ScheduleInfo(Struct, frozen=True, array_like=True):
    """A task that the user's code gives a cron expression. A `retry_delay_s` below 0 means none, an
    `expires_in_s` of 0 too."""

    task: TaskInfo
    cron: str
    tz: str
    payload: bytes
    headers: dict[str, str]
    labels: dict[str, str]
    retry_delay_s: float = -1.0
    expires_in_s: float = 0.0
    concurrency_key: str = ""
    max_per_key: int = 0
    refuses: bool = False
    fair_key: str = ""


# From the stream process to a child.


class Begin(Struct, frozen=True, array_like=True, tag="begin"):
    """Become a child for sync or for async tasks; sent once, after Imported."""

    asynchronous: bool
    slots: int


class Give(Struct, frozen=True, array_like=True, tag="give"):
    """Execute these runs, in order; the first has this ordinal, the others the following ones."""

    first_ordinal: int
    blocks: list[RunBlock]


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
    """The answer to Waiting: the run may wait, unless `refusal` says why not."""

    request: int
    refusal: str = ""


ToChild = Begin | Give | TakeBack | Stop | Finish | WaitAnswer

# From a child to the stream process.


class Imported(Struct, frozen=True, array_like=True, tag="imported"):
    """The user's module is imported, and registers these tasks and queues."""

    tasks: list[TaskInfo]
    queues: list[QueueInfo]
    schedules: list[ScheduleInfo] = []


class Unusable(Struct, frozen=True, array_like=True, tag="unusable"):
    """The user's module cannot be imported, or its lifespan failed; the text is for people."""

    text: str


class Ready(Struct, frozen=True, array_like=True, tag="ready"):
    """The lifespan is entered; runs may come."""


class Settled(Struct, frozen=True, array_like=True, tag="settled"):
    """The outcome of a run is final, whatever its error handler does, which runs now. Ended follows."""

    ending: Ending


class Finished(Struct, frozen=True, array_like=True, tag="finished"):
    """Runs that returned: a column of each."""

    tokens: Sequence[int]
    elapsed_us: Sequence[int]
    results: Sequence[bytes]

    def __post_init__(self) -> None:
        """User code may have written into the socket: what does not fit together is not understood."""
        if not len(self.tokens) == len(self.elapsed_us) == len(self.results):
            raise ValueError("columns of different lengths")


class Ended(Struct, frozen=True, array_like=True, tag="ended"):
    """Runs that ended otherwise."""

    endings: list[Ending]


class Returned(Struct, frozen=True, array_like=True, tag="returned"):
    """Runs given back, which had not started. `answer`: this answers a TakeBack."""

    tokens: list[int]
    answer: bool


class Waiting(Struct, frozen=True, array_like=True, tag="waiting"):
    """A run is about to wait for other tasks and asks for permission; answered by WaitAnswer."""

    request: int


class Progressed(Struct, frozen=True, array_like=True, tag="progressed"):
    """How far a run is, by its own word; `total` is None where it does not know."""

    token: int
    done: float
    total: float | None
    text: str

    def __post_init__(self) -> None:
        """As in Finished: a broker would end the stream for what is not valid."""
        checked_progress(self.done, self.total, self.text)


class Resumed(Struct, frozen=True, array_like=True, tag="resumed"):
    """That wait is over."""

    request: int


FromChild = (
    Imported | Unusable | Ready | Settled | Finished | Ended | Returned | Waiting | Resumed | Progressed
)

_encoder = msgspec.msgpack.Encoder()


def encode(messages: list[ToChild] | list[FromChild]) -> bytes:
    """Encode messages as one frame."""
    body = _encoder.encode(messages)
    return LENGTH.pack(len(body)) + body


def cut(buffer: bytearray) -> Iterator[bytes]:
    """Remove the complete frames from the front of the buffer; yield their bodies."""
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
