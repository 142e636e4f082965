"""Sends the mixed load to HYREX_BROKER_URL, and measures.

Orders: {"rate": R}: send about R tasks a second from now on; {"take": true}: what was measured since the last
time; {"end": true}: send no more, and wait for those that are on their way.
"""

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

from benchmarks.actors.orders import obey
from benchmarks.soak import tasks
from hyrex import send_many
from hyrex.errors import HyrexError, SendManyFailed, SubmitUnknown
from hyrex.sent import SentTaskHandle

BATCH: Final = 20
SINGLES_SHARE: Final = 0.5
SINGLE_THREADS: Final = 4
WAITS_PER_S: Final = 5.0
RESULT_WITHIN_S: Final = 60.0
RESEND_FOR_S: Final = 60.0

Send = Callable[[], SentTaskHandle]


class Measured:
    """What the threads measured since the last look; times in milliseconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: dict[str, list[float]] = {"send": [], "start": [], "result": []}
        self._counts: Counter[str] = Counter()

    def time(self, kind: str, began_s: float) -> None:
        """Note how long something took that began then."""
        self.milliseconds(kind, (time.monotonic() - began_s) * 1000)

    def milliseconds(self, kind: str, taken: float) -> None:
        """Note how long something took."""
        with self._lock:
            self._times[kind].append(round(taken, 3))

    def count(self, what: str, more: int = 1) -> None:
        """Note that something happened."""
        with self._lock:
            self._counts[what] += more

    def take(self) -> dict[str, Any]:
        """Times since the last call; counts since the beginning."""
        with self._lock:
            times, self._times = self._times, {kind: [] for kind in self._times}
            return {"ms": times, "counts": dict(self._counts)}


class Sender:
    """Threads that send on a schedule which does not wait for slow sends."""

    def __init__(self) -> None:
        self.measured = Measured()
        self._ends = threading.Event()
        self._threads: list[threading.Thread] = []

    def obey(self, rate: float = 0.0, take: bool = False, end: bool = False) -> dict[str, Any]:
        """Obey one order."""
        if rate:
            self._begin(rate)
        if end:
            self._ends.set()
            for thread in self._threads:
                thread.join()
        return self.measured.take() if take or end else {}

    def _begin(self, rate: float) -> None:
        singles = rate * SINGLES_SHARE
        crew = [
            partial(self._repeat, singles / SINGLE_THREADS, partial(_single, random.Random(seed)))
            for seed in range(SINGLE_THREADS)
        ]
        crew.append(partial(self._repeat, (rate - singles) / BATCH, _batch))
        crew.append(partial(self._repeat, WAITS_PER_S, _wait))
        self._threads = [threading.Thread(target=work) for work in crew]
        for thread in self._threads:
            thread.start()

    def _repeat(self, per_s: float, step: Callable[[Measured, int], None]) -> None:
        began = time.monotonic()
        for number in itertools.count():
            if self._ends.wait(max(began + number / per_s - time.monotonic(), 0)):
                return
            step(self.measured, number)


def _single(rnd: random.Random, measured: Measured, number: int) -> None:
    """Send one task; what was not acknowledged is sent again under the same id."""
    began = time.monotonic()
    handle = _surely(measured, _chosen(rnd, number))
    if handle is not None:
        measured.time("send", began)
        measured.count("deduplicated" if handle.deduplicated else "acknowledged")


def _chosen(rnd: random.Random, number: int) -> Send:
    # Each key is used by two sends of a thread, so that the second finds the first.
    key = f"{threading.get_ident()}-{number // 20}"
    choices: dict[Send, int] = {
        partial(tasks.plain.send, number): 60,
        partial(tasks.plain.with_config(idempotency_key=key).send, 1): 10,
        partial(tasks.plain.with_config(delay=rnd.uniform(0.1, 2)).send, number): 10,
        partial(
            tasks.plain.with_config(priority=rnd.randint(1, 10), labels={"kind": "soak"}).send, number
        ): 5,
        partial(tasks.slow.send, rnd.uniform(0.05, 1)): 5,
        tasks.retrying.send: 4,
        tasks.failing.send: 2,
        partial(tasks.parent.send, number): 4,
    }
    return rnd.choices(list(choices), list(choices.values()))[0]


def _surely(measured: Measured, send: Send) -> SentTaskHandle | None:
    until = time.monotonic() + RESEND_FOR_S
    while True:
        try:
            return send()
        except SubmitUnknown as unknown:
            measured.count("sent again")
            send = partial(_again, unknown.handle)
        except HyrexError as error:
            measured.count(f"failed sends: {type(error).__name__}")
            if time.monotonic() > until:
                return None


def _again(handle: SentTaskHandle) -> SentTaskHandle:
    handle.resend()
    return handle


def _batch(measured: Measured, number: int) -> None:
    try:
        send_many(tasks.plain.call(number + each) for each in range(BATCH))
        measured.count("acknowledged", BATCH)
    except SendManyFailed as failed:
        _resend(measured, failed)
    except HyrexError as error:
        measured.count(f"failed sends: {type(error).__name__}")


def _resend(measured: Measured, failed: SendManyFailed) -> None:
    """Send those of a batch again that were not acknowledged."""
    measured.count("sent again", len(failed.failures))
    measured.count("acknowledged", BATCH - len(failed.failures))
    for sent in _failed_handles(failed):
        if _surely(measured, partial(_again, sent)) is not None:
            measured.count("acknowledged")


def _failed_handles(failed: SendManyFailed) -> Iterator[SentTaskHandle]:
    handles: Sequence[SentTaskHandle] = failed.handles
    return (handles[place] for place in failed.failures)


def _wait(measured: Measured, _number: int) -> None:
    """Send a task and wait for its result, which says when it started."""
    began, sent_ns = time.monotonic(), time.monotonic_ns()
    try:
        handle = tasks.stamp.send(sent_ns)
        measured.count("acknowledged")
        measured.milliseconds("start", handle.result(RESULT_WITHIN_S) / 1e6)
        measured.time("result", began)
    except TimeoutError:
        measured.count("results not known in time")
    except HyrexError as error:
        measured.count(f"failed waits: {type(error).__name__}")


if __name__ == "__main__":
    obey(Sender().obey)
