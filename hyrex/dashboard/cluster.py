"""What the cluster looks like now: one stream of the broker for each token, however many pages show it.

A stream runs while somebody looks, and a little longer. The broker computes what it sends once for all.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import grpc

from hyrex.dashboard.brokers import Brokers
from hyrex.transport.errors import CallFailed, CallFailure
from hyrex.v1 import admin_service_pb2 as admin

_Key: TypeAlias = tuple[str | None, str, bytes, float]
"""Token, method, request, and for how many seconds an answer is kept: who wants a fresh one shares none that
is kept for longer."""

FIRST_WITHIN_S: Final = 5.0
KEPT_S: Final = 10.0
PAUSE_S: Final = 1.0
# A frame comes each second.
SILENT_S: Final = 8.0
ANSWERS_KEPT_S: Final = 6.0
MOST_KEPT: Final = 500
# What may take longer (a count looks for up to 1.5 s) does not hold up a page.
SOON_S: Final = 0.05
SOON_KEPT_S: Final = 30.0


WHO: Final = admin.GetCallerRequest()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Queues by name, workers newest first, brokers by name, and what needs somebody."""

    frame: admin.WatchClusterResponse

    @property
    def queues(self) -> Sequence[admin.QueueActivity]:
        """Queues with their rates."""
        return self.frame.queues

    @property
    def workers(self) -> Sequence[admin.WorkerActivity]:
        """Workers with what they run."""
        return self.frame.workers

    def queue(self, name: str) -> admin.QueueActivity | None:
        """The queue of this name."""
        return next((each for each in self.frame.queues if each.queue.name == name), None)


class ClusterView:
    """Snapshots, and answers that several pages share, as tokens see them."""

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers
        self._watches: dict[str | None, _Watch] = {}
        self._kept: dict[_Key, tuple[float, Any]] = {}
        self._coming: dict[_Key, asyncio.Task[None]] = {}

    async def seen_by(self, token: str | None) -> Snapshot:
        """The newest snapshot. Raises: CallFailed."""
        watch = self._watches.get(token)
        if watch is None:
            watch = self._watches[token] = _Watch(self._brokers, token)
            watch.task.add_done_callback(lambda _: self._watches.pop(token, None))
        return await watch.newest()

    async def kept(self, token: str | None, service: str, method: str, request: Any) -> Any:
        """An answer that is at most `ANSWERS_KEPT_S` old, asked once for all who want the same.
        Raises: CallFailed."""
        key = (token, method, request.SerializeToString(), ANSWERS_KEPT_S)
        known = self._known(key)
        return known if known is not None else await self._ask(key, service, request)

    async def soon(self, token: str | None, service: str, method: str, request: Any) -> Any | None:
        """An answer that is at most `SOON_KEPT_S` old; None where it is not there within `SOON_S`: a later
        look has it. What goes wrong is None, too."""
        key = (token, method, request.SerializeToString(), SOON_KEPT_S)
        if (known := self._known(key)) is not None:
            return known
        if key not in self._coming:
            coming = self._coming[key] = asyncio.create_task(self._fetch(key, service, request))
            coming.add_done_callback(lambda _: self._coming.pop(key, None))
        await asyncio.wait([self._coming[key]], timeout=SOON_S)
        return self._known(key)

    async def caller(self, token: str | None) -> admin.GetCallerResponse | None:
        """Whose token it is, and what it may; None while that is not known."""
        found: admin.GetCallerResponse | None = await self.soon(token, "admin", "GetCaller", WHO)
        return found

    async def close(self) -> None:
        """End all streams."""
        watches = [*(watch.task for watch in self._watches.values()), *self._coming.values()]
        for task in watches:
            task.cancel()
        await asyncio.gather(*watches, return_exceptions=True)

    async def _fetch(self, key: "_Key", service: str, request: Any) -> None:
        with suppress(CallFailed):
            await self._ask(key, service, request)

    async def _ask(self, key: "_Key", service: str, request: Any) -> Any:
        """Ask, and keep the answer for a while. Raises: CallFailed."""
        token, method, _, for_s = key
        answer = await self._brokers.as_seen_by(token).read(service, method, request)
        now = time.monotonic()
        self._kept = {each: kept for each, kept in self._kept.items() if now < kept[0] and each != key}
        if len(self._kept) >= MOST_KEPT:
            del self._kept[next(iter(self._kept))]  # the one that came first
        self._kept[key] = (now + for_s, answer)
        return answer

    def _known(self, key: "_Key") -> Any | None:
        """The answer that is kept, unless its time is over."""
        until, answer = self._kept.get(key, (0.0, None))
        return answer if time.monotonic() < until else None


class _Watch:
    """One stream, begun anew when it breaks, ended when nobody has looked for a while."""

    def __init__(self, brokers: Brokers, token: str | None) -> None:
        self._brokers = brokers
        self._token = token
        self._newest: Snapshot | None = None
        self._failure: CallFailure | None = None
        self._known = asyncio.Event()
        self._looked = self._taken = time.monotonic()
        self.task = asyncio.create_task(self._run())

    async def newest(self) -> Snapshot:
        """The newest frame, or the first one. Raises: CallFailed."""
        self._looked = time.monotonic()
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_WITHIN_S):
                await self._known.wait()
        if self._failure is not None:
            raise CallFailed(self._failure)
        if self._newest is None or time.monotonic() - self._taken > SILENT_S:
            raise CallFailed(CallFailure(grpc.StatusCode.DEADLINE_EXCEEDED, "the broker is silent", "", {}))
        return self._newest

    async def _run(self) -> None:
        while time.monotonic() - self._looked < KEPT_S:
            try:
                await self._follow()
            except CallFailed as error:
                self._failure = error.failure
                self._known.set()
            await asyncio.sleep(PAUSE_S)

    async def _follow(self) -> None:
        """Take frames until the stream ends or nobody looks. Raises: CallFailed."""
        request = admin.WatchClusterRequest()
        async for frame in self._brokers.stream("admin", "WatchCluster", request, self._token):
            self._newest, self._failure, self._taken = Snapshot(frame), None, time.monotonic()
            self._known.set()
            if time.monotonic() - self._looked > KEPT_S:
                return
