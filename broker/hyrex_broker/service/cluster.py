"""AdminService.WatchCluster: the cluster at one moment, as a frame for whoever looks."""

import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Protocol

from hyrex.v1 import admin_service_pb2 as pb
from hyrex_broker.domain.model import BrokerId
from hyrex_broker.domain.rights import ANYONE, Caller
from hyrex_broker.domain.views import QueueView, SessionView
from hyrex_broker.engine.cluster.stats import CountedSteps
from hyrex_broker.engine.overview import Parts
from hyrex_broker.service import convert
from hyrex_broker.service.needs import needs_of
from hyrex_broker.service.times import timestamp
from hyrex_broker.storage.cluster import ClusterStore, Held, RefusedInQueue
from hyrex_broker.storage.peers import NEWEST, PeerStore
from hyrex_broker.storage.queues import QueueStore
from hyrex_broker.storage.stats import FINE, Counted, StatStore

MOST_QUEUES: Final = 1000
MOST_WORKERS: Final = 200
MOST_RUNS: Final = 20
"""Of one worker,"""
MOST_RUNS_IN_ALL: Final = 500
"""and of all: a run costs the broker about 10 us in each frame."""
MOST_PAGES: Final = 10
"""For workers that a caller may see, so many pages of workers are looked at."""
QUEUE_CAP: Final = 1000
MOST_NEEDS: Final = 100
_STEP_S: Final = FINE.total_seconds()
_NO_BROKER: Final = BrokerId(0)


class OwnRates:
    """What this broker counts per second, over as long as a step; asked each second while somebody looks."""

    def __init__(self, steps: CountedSteps) -> None:
        self._steps = steps
        self._seen: deque[tuple[float, dict[str, Counted]]] = deque()

    def now(self) -> dict[str, tuple[float, float, float]] | None:
        """Submitted, completed and badly ended tasks per second, by queue; None if nobody looked lately."""
        moment, found = time.monotonic(), self._steps.step()
        while self._seen and self._seen[0][0] < moment - _STEP_S:
            self._seen.popleft()
        self._seen.append((moment, found))
        began, before = self._seen[0]
        if moment == began:
            return None
        none = Counted("")
        return {
            queue: _per_second(counted, before.get(queue, none), moment - began)
            for queue, counted in found.items()
        }


def _per_second(now: Counted, before: Counted, seconds: float) -> tuple[float, float, float]:
    return (
        (now.submitted - before.submitted) / seconds,
        (now.completed - before.completed) / seconds,
        (_bad(now) - _bad(before)) / seconds,
    )


def _bad(counted: Counted) -> int:
    return counted.failed + counted.timed_out + counted.lost


class ClusterStores:
    """Where a frame is read from."""

    def __init__(self, cluster: ClusterStore, queues: QueueStore, peers: PeerStore, stats: StatStore) -> None:
        self.cluster = cluster
        self.queues = queues
        self.peers = peers
        self.stats = stats


class RefusedBeside(Protocol):
    """What is known of refused rows of the outbox beside the database."""

    @property
    def beside(self) -> Sequence[RefusedInQueue]:
        """The newest ones, by queue, as of the last look."""
        ...


class ClusterFrames:
    """Makes frames. Each read is bounded, whatever the tables hold. Raises StorageUnavailable."""

    def __init__(
        self, stores: ClusterStores, broker: BrokerId, own: OwnRates, refused: RefusedBeside
    ) -> None:
        self._stores = stores
        self._refused = refused
        self._broker = broker
        self._own = own

    async def compute(self, caller: Caller = ANYONE) -> pb.WatchClusterResponse:
        """The cluster as it stands, as far as a caller may see its queues and workers, with what these need.
        The runs are those of all."""
        stores = self._stores
        sees = None if caller.unlimited else caller.sees
        queues = await stores.queues.page("", MOST_QUEUES + 1, QUEUE_CAP, sees)
        sessions = await self._sessions(caller)
        workers = sessions[:MOST_WORKERS]
        most = max(min(MOST_RUNS, MOST_RUNS_IN_ALL // max(len(workers), 1)), 1)
        held = await stores.cluster.running([each.session_id for each in workers], most)
        oldest = await stores.cluster.oldest([queue.name for queue in queues if queue.queued])
        return pb.WatchClusterResponse(
            at=timestamp(await stores.queues.now()),
            queues=await self._queues(queues[:MOST_QUEUES], oldest),
            workers=_workers(workers, held),
            brokers=map(convert.broker, await stores.peers.brokers()),
            needs=await needs_of(
                stores.cluster,
                queues,
                oldest,
                MOST_NEEDS,
                of_these=sees is not None,
                beside=self._refused.beside,
            ),
            queues_capped=len(queues) > MOST_QUEUES,
            workers_capped=len(sessions) > MOST_WORKERS,
        )

    async def _sessions(self, caller: Caller) -> list[SessionView]:
        """The newest ones that a caller may see, one more than there is room for if there are more."""
        if caller.unlimited:
            return await self._stores.peers.sessions(NEWEST, MOST_WORKERS + 1, ended=False, names=False)
        found: list[SessionView] = []
        before = NEWEST
        for _ in range(MOST_PAGES):
            page = await self._stores.peers.sessions(before, MOST_WORKERS + 1, ended=False, names=False)
            found += [each for each in page if caller.covers_all(each.queue_patterns)]
            if len(found) > MOST_WORKERS or len(page) <= MOST_WORKERS:
                break
            before = page[-1].session_id
        return found[: MOST_WORKERS + 1]

    async def _queues(
        self, queues: Sequence[QueueView], oldest: Mapping[str, datetime]
    ) -> list[pb.QueueActivity]:
        own = self._own.now()
        others = await self._stores.stats.rates(self._broker if own is not None else _NO_BROKER)
        return [_activity(queue, oldest.get(queue.name), own or {}, others) for queue in queues]


class ClusterViews:
    """What callers may see of frames: the frame itself for those that may see all, and for others one for
    their patterns, made once for all that have the same."""

    def __init__(self, compute: Callable[[Caller], Awaitable[pb.WatchClusterResponse]]) -> None:
        self._parts: Parts[_PartOfCluster, pb.WatchClusterResponse] = Parts(lambda part: compute(part.caller))
        self._of: pb.WatchClusterResponse | None = None
        self._seen: dict[tuple[str, ...], pb.WatchClusterResponse] = {}

    async def seen_by(self, caller: Caller, frame: pb.WatchClusterResponse) -> pb.WatchClusterResponse:
        """A frame as a caller may see it. If it had no room for everything, one that is made of what the
        caller may see. Raises StorageUnavailable."""
        if caller.unlimited:
            return frame
        if frame.queues_capped or frame.workers_capped or len(frame.needs) >= MOST_NEEDS:
            return _seen_by(caller, await self._parts.newest(_PartOfCluster(caller.queue_patterns, caller)))
        if frame is not self._of:
            self._of, self._seen = frame, {}
        if caller.queue_patterns not in self._seen:
            self._seen[caller.queue_patterns] = _seen_by(caller, frame)
        return self._seen[caller.queue_patterns]


@dataclass(frozen=True, slots=True)
class _PartOfCluster:
    """What callers with these patterns see; `caller` is one of them."""

    queue_patterns: tuple[str, ...]
    caller: Caller = field(compare=False)


def _seen_by(caller: Caller, frame: pb.WatchClusterResponse) -> pb.WatchClusterResponse:
    workers = [
        pb.WorkerActivity(session=each.session, runs=[run for run in each.runs if caller.sees(run.queue)])
        for each in frame.workers
        if caller.covers_all(each.session.queue_patterns)
    ]
    return pb.WatchClusterResponse(
        at=frame.at,
        queues=[each for each in frame.queues if caller.sees(each.queue.name)],
        workers=workers,
        brokers=frame.brokers,
        needs=[need for need in frame.needs if need.queue and caller.sees(need.queue)],
        queues_capped=frame.queues_capped,
        workers_capped=frame.workers_capped,
    )


def _activity(
    queue: QueueView,
    oldest: datetime | None,
    own: Mapping[str, tuple[float, float, float]],
    others: Mapping[str, Counted],
) -> pb.QueueActivity:
    submitted, completed, failed = own.get(queue.name, (0.0, 0.0, 0.0))
    elsewhere = others.get(queue.name, Counted(queue.name))
    return pb.QueueActivity(
        queue=convert.queue(queue),
        oldest_ready_at=timestamp(oldest) if oldest is not None else None,
        submitted_per_s=submitted + elsewhere.submitted / _STEP_S,
        completed_per_s=completed + elsewhere.completed / _STEP_S,
        failed_per_s=failed + elsewhere.failed / _STEP_S,
    )


def _workers(sessions: Sequence[SessionView], held: Sequence[Held]) -> list[pb.WorkerActivity]:
    runs: dict[int, list[pb.RunningTask]] = {}
    for each in held:
        runs.setdefault(each.session_id, []).append(
            pb.RunningTask(
                task_id=each.task_id,
                name=each.name,
                queue=each.queue,
                since=timestamp(each.since),
                run_number=each.run_number,
            )
        )
    return [
        pb.WorkerActivity(
            session=convert.session(replace(view, task_names=())), runs=runs.get(view.session_id, ())
        )
        for view in sessions
    ]
