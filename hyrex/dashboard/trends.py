"""What ended in each queue in the last 15 minutes, for the small pictures beside queues.

Brokers tell it for one queue at a time. So it is asked beside the pages, for a bounded number of queues, and
only while somebody looks at them: a page shows what is known, and a later look the rest.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from hyrex.dashboard.brokers import Brokers
from hyrex.dashboard.render.charts import Trend
from hyrex.transport.errors import CallFailed
from hyrex.v1 import admin_service_pb2 as admin

STEP_S: Final = 10
PLACES: Final = 30
# So many steps of the brokers make one place of the picture.
STEPS_A_PLACE: Final = 3
# A broker writes a step some seconds after its end.
LATE_S: Final = 10
PLACE_S: Final = STEP_S * STEPS_A_PLACE
FRESH_S: Final = 20.0
KEPT_S: Final = 300.0
MOST_QUEUES: Final = 50
AT_ONCE: Final = 4
# What is known by then is on the page that was asked for.
WAITED_S: Final = 0.03


@dataclass(frozen=True, slots=True)
class _Known:
    told_at: float
    trend: Trend


class Trends:
    """Trends of queues, as tokens may see them. For one event loop."""

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers
        self._known: dict[tuple[str | None, str], _Known] = {}
        self._asked: dict[tuple[str | None, str], float] = {}
        self._asking: dict[str | None, asyncio.Task[None]] = {}

    async def of(self, token: str | None, queues: Sequence[str]) -> Mapping[str, Trend]:
        """The trends that are known of these queues; of the first `MOST_QUEUES` those that are missing or
        older than `FRESH_S` are asked for beside. Raises nothing."""
        wanted, now = queues[:MOST_QUEUES], time.monotonic()
        stale = [name for name in wanted if now - self._asked.get((token, name), float("-inf")) > FRESH_S]
        if stale and token not in self._asking:
            asking = self._asking[token] = asyncio.create_task(self._ask_all(token, stale))
            asking.add_done_callback(lambda _: self._asking.pop(token, None))
            await asyncio.wait([asking], timeout=WAITED_S)
        return {name: known.trend for name in wanted if (known := self._known.get((token, name)))}

    async def close(self) -> None:
        """Ask no more."""
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def _ask_all(self, token: str | None, names: Sequence[str]) -> None:
        now = time.monotonic()
        self._known = {key: known for key, known in self._known.items() if now - known.told_at < KEPT_S}
        self._asked = {key: asked_at for key, asked_at in self._asked.items() if now - asked_at < FRESH_S}
        places = asyncio.Semaphore(AT_ONCE)

        async def ask(name: str) -> None:
            async with places:
                await self._ask(token, name)

        await asyncio.gather(*map(ask, names))

    async def _ask(self, token: str | None, name: str) -> None:
        """Ask for one queue. Where that fails the old trend stays, and is asked for again as late as if it
        had not failed: a queue that is gone is no reason to ask at each look."""
        request = request_of(name, time.time())
        self._asked[token, name] = time.monotonic()
        with suppress(CallFailed):
            answer = await self._brokers.as_seen_by(token).read("admin", "GetStats", request)
            self._known[token, name] = _Known(time.monotonic(), trend_of(request, answer))


def request_of(queue: str, now: float) -> admin.GetStatsRequest:
    """The request for the last quarter of an hour, up to the last step that is written."""
    end = int(now - LATE_S) // STEP_S * STEP_S
    return admin.GetStatsRequest(
        since=Timestamp(seconds=end - PLACES * PLACE_S),
        until=Timestamp(seconds=end),
        queue=queue,
        step=Duration(seconds=STEP_S),
    )


def trend_of(request: admin.GetStatsRequest, answer: admin.GetStatsResponse) -> Trend:
    """The answer as rates of each place; where nothing was counted, nothing ended."""
    ended, failed = [0.0] * PLACES, [0.0] * PLACES
    for point in answer.points:
        place = (point.at.seconds - request.since.seconds) // PLACE_S
        if 0 <= place < PLACES:
            bad = point.failed + point.timed_out + point.lost
            ended[place] += (point.completed + point.cancelled + bad) / PLACE_S
            failed[place] += bad / PLACE_S
    return Trend(tuple(ended), tuple(failed))
