"""Paths of which brokers are killed between every two statements (test_killed_between_statements.py).

To add a path: a subclass of Path, and its line in PATHS. Its points are all that its loops come by (the test
fails if there are others), and statements that something else makes, by their bare names.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import ClassVar, Final

import grpc

from hyrex.v1.task_service_pb2 import CancelTasksRequest, RetryTasksRequest
from hyrex.v1.task_service_pb2_grpc import TaskServiceStub
from hyrex_broker.domain.bulk import BulkAction, BulkOperation, BulkState, acted_on
from hyrex_broker.domain.ids import lowest_id
from hyrex_broker.domain.model import Outcome, TaskExtras, TaskId
from hyrex_broker.domain.selection import Selection
from hyrex_broker.storage.bulk import BulkStore
from tests.chaos.record import digest
from tests.faults.doomed import Doomed
from tests.faults.field import Field
from tests.integration.engine.scheduled import LEAP_DAY, MANY
from tests.integration.storage.keys import end, follow, keyed, submit_keyed, take
from tests.integration.storage.stage import Stage, end_of
from tests.support.ports import free_port

_ONE_OF_EACH_KEY: Final = """
select not exists (select from blocked where key is null)
  and (select count(*) from seat) = (select count(*) from holding)
  and (select count(*) from holding)
      = (select count(distinct key_hash) from live join task on task.id = live.task_id)
"""
_IN_PLACES: Final = "select count(*) from live where task_id = any (select id from task)"


@dataclass
class Path:
    """What brokers do, one after the other: each is killed at the next point."""

    field: Field
    listen: str = "127.0.0.1:0"
    loops: ClassVar[Sequence[str]] = ()
    points: ClassVar[Sequence[str]]

    def __post_init__(self) -> None:
        """Begin with nothing."""

    async def prepare(self, stage: Stage, number: int) -> None:
        """Before a broker is started: give it something to do. The last one finds what is left, too."""

    def ask(self, broker: Doomed, number: int) -> None:
        """What a client asks of a broker; the broker may be killed by it."""

    async def is_done(self, stage: Stage) -> bool:
        """Return True if the last broker has nothing left to do."""
        raise NotImplementedError

    async def check(self, stage: Stage) -> None:
        """Nothing is lost, doubled or over a maximum."""


class Sweep(Path):
    """What was never followed, since whoever recorded the end was killed: one waits for each such end."""

    loops = ("Follower._follow_told", "Follower._sweep")
    points = (
        "Follower._sweep: follow.elected",
        "Follower._sweep: follow.dead_seats",
        "Follower._sweep: follow.stuck",
        "Follower._sweep: workflows.waiting",
        "Follower._follow_told: follow.follow",
        "Follower._follow_told: workflows.advance",
    )

    def __post_init__(self) -> None:
        self.waiting: list[TaskId] = []

    async def prepare(self, stage: Stage, number: int) -> None:
        """Two wait for a key whose only holder has ended."""
        first, *others = [keyed(f"key {number}") for _ in range(3)]
        await submit_keyed(stage, first)
        await submit_keyed(stage, *others)
        for run in await take(stage, 10):
            if run.task_id == first.task_id:
                await end(stage, run)
        self.waiting += [each.task_id for each in others]

    async def is_done(self, stage: Stage) -> bool:
        """One of each key is ready or runs."""
        return bool(await stage.execute("select count(*) = $1 from holding", len(self.waiting) // 2))

    async def check(self, stage: Stage) -> None:
        """The other one of each still waits."""
        assert await stage.execute("select count(*) from blocked") == len(self.waiting) // 2
        assert await stage.execute(_IN_PLACES) == len(self.waiting)


class ByClients(Path):
    """Ends that clients ask for, and retries: whoever answers is killed before it has followed them."""

    loops = ("Follower._follow_told",)
    points = (
        "cancel.cancel",
        "cancel.cancel_blocked",
        "cancel.retry",
        "Follower._follow_told: follow.follow",
        "Follower._follow_told: workflows.advance",
    )

    def __post_init__(self) -> None:
        self.keys: list[list[TaskId]] = []
        self.failed: list[TaskId] = []

    async def prepare(self, stage: Stage, number: int) -> None:
        """One holds a key and two wait for it; some of other keys have failed."""
        if not number:
            await submit_keyed(stage, *[keyed(f"failed {each}") for each in range(len(self.points) + 1)])
            runs = await take(stage, 10)
            await stage.ended([end_of(run, Outcome.FAILED) for run in runs])
            self.failed = [run.task_id for run in runs]
            await follow(stage, *self.failed)
        tasks = [keyed(f"key {number}") for _ in range(3)]
        for task in tasks:
            await submit_keyed(stage, task)
        self.keys.append([task.task_id for task in tasks])

    def ask(self, broker: Doomed, number: int) -> None:
        """Cancel the holder, and the last that waits; let a failed one run again."""
        with grpc.insecure_channel(broker.url().removeprefix("grpc://")) as channel:
            tasks = TaskServiceStub(channel)
            for task_id in (self.keys[-1][0], self.keys[-1][2]):
                tasks.CancelTasks(CancelTasksRequest(task_ids=[task_id]), timeout=60)
            tasks.RetryTasks(RetryTasksRequest(task_ids=[self.failed[number]]), timeout=60)

    async def is_done(self, stage: Stage) -> bool:
        """One of each key may run."""
        return bool(await stage.execute(_ONE_OF_EACH_KEY))

    async def check(self, stage: Stage) -> None:
        """Of the first key the second may run; of the last that too, and what failed runs again."""
        (_, second, third), *_, (_, last, _) = self.keys
        held = {str(row[0]) for row in await stage.database.fetch("select task_id from holding")}
        assert {second, last, self.failed[2], self.failed[-1]} <= held
        assert await stage.execute("select count(*) from blocked where task_id = $1", third) == 1


class ByAWorker(Path):
    """Ends that a worker reports: whoever records one is killed before it has followed it or answered."""

    loops = ("Follower._follow_told",)
    points = (
        "report.report_completed",
        "report.report",
        "Follower._follow_told: follow.follow",
        "Follower._follow_told: workflows.advance",
    )
    _count: Final = 8

    def __post_init__(self) -> None:
        self.listen = f"127.0.0.1:{free_port()}"
        self.tasks: list[TaskId] = []

    async def prepare(self, stage: Stage, number: int) -> None:
        """A worker, and tasks of one key: each second one fails."""
        if number:
            return
        for each in range(self._count):
            task = keyed("one")
            fails = "true" if each % 2 else "false"
            task.terms = replace(task.terms, name="alone_once")
            task.payload = f'{{"number": {each}, "fails": {fails}}}'.encode()
            await submit_keyed(stage, task)
            self.tasks.append(task.task_id)

    def ask(self, broker: Doomed, number: int) -> None:
        """The worker goes to each in turn."""
        if not number:
            self.field.worker(f"grpc://{self.listen}")

    async def is_done(self, stage: Stage) -> bool:
        """All have ended, and nobody has a seat."""
        ended = "select count(*) = $1 and not exists (select from seat) from task_run where final"
        return bool(await stage.execute(ended, self._count))

    async def check(self, stage: Stage) -> None:
        """Each was executed once, and no two at once."""
        executions = digest(self.field.journal.read()).executions
        assert {task_id: len(executions[task_id]) for task_id in self.tasks} == dict.fromkeys(self.tasks, 1)
        runs = sorted((each.began, each.ended) for task_id in self.tasks for each in executions[task_id])
        assert all(ended <= began for (_, ended), (began, _) in pairwise(runs))


class Firing(Path):
    """Schedules whose slot is due, one of them in a queue that is full at first."""

    loops = ("ScheduledSubmits._fire_when_due",)
    points = (
        "ScheduledSubmits._fire_when_due: schedules.next_due",
        "ScheduledSubmits._fire_when_due: schedules.due",
        "ScheduledSubmits._fire_when_due: lanes.find_lanes",
        "ScheduledSubmits._fire_when_due: lanes.lock_lanes",
        "ScheduledSubmits._fire_when_due: lanes.add_queues",
        "ScheduledSubmits._fire_when_due: lanes.intern",
        "ScheduledSubmits._fire_when_due: before commit",
        "ScheduledSubmits._fire_when_due: after commit",
        "ScheduledSubmits._fire_when_due: depths.of_queue",
        "ScheduledSubmits._fire_when_due: schedules.fire",
        "ScheduledSubmits._fire_when_due: schedules.put_off",
        "ScheduledSubmits._fire_when_due: marks.save_marks",
    )
    _due: Final = (
        f"{MANY} values (0, $1, $1, $2, '{LEAP_DAY}', 'UTC', '{{}}', '{{\"rank\": 5, \"max_retries\": 0}}',"
        " 'latest', 0, 'code', date_trunc('second', now()), now())"
    )

    def __post_init__(self) -> None:
        self.made = 0

    async def prepare(self, stage: Stage, number: int) -> None:
        """One is due in a queue with room, and one that waits for room in its queue."""
        if not number:
            await stage.submitted(queue="full")
            await stage.execute(self._due, "waits", "full")
        is_last = number == len(self.points)
        await stage.execute("update queue set max_waiting = $1 where name = 'full'", None if is_last else 1)
        await stage.execute("update schedule set due_at = now() where name = 'waits'")
        await stage.execute(self._due, f"due {number}", "default")
        self.made = number + 2

    async def is_done(self, stage: Stage) -> bool:
        """All have their slot."""
        return bool(await stage.execute("select count(*) = $1 from schedule_slot", self.made))

    async def check(self, stage: Stage) -> None:
        """Each has one task, and goes on with its next slot."""
        stored = "select count(*) from schedule_slot where task_id in (select id from task)"
        assert await stage.execute(stored) == self.made
        assert await stage.execute("select count(*) from task") == self.made + 1
        assert await stage.execute(_IN_PLACES) == self.made + 1
        assert not await stage.execute("select count(*) from schedule where next_at <= now()")


class Bulk(Path):
    """A bulk operation over tasks of each kind, of which a transaction takes ten."""

    loops = ("BulkOperations.run",)
    action: ClassVar[BulkAction]
    count: ClassVar[int]

    async def prepare(self, stage: Stage, number: int) -> None:
        """At first it is begun; then whoever worked on it has been silent for long."""
        if not number:
            await self.seed(stage)
            await BulkStore(stage.database).begin(_operation(self.action))
        await stage.execute("update bulk_operation set seen_at = now() - interval '1 minute'")

    async def seed(self, stage: Stage) -> None:
        """Store the tasks."""
        raise NotImplementedError

    async def is_done(self, stage: Stage) -> bool:
        """It says that it is, and what follows from it is done."""
        return bool(
            await stage.execute(
                "select state = 'done' and not exists (select from blocked where key is null)"
                " and (select count(*) from seat) = (select count(*) from holding) from bulk_operation"
            )
        )

    async def check(self, stage: Stage) -> None:
        """It has counted each task once."""
        counted = await stage.execute("select array[matched, done] from bulk_operation")
        assert counted == [self.count, self.count]


class BulkCancel(Bulk):
    """Of what is ready, delayed and blocked."""

    action, count = BulkAction.CANCEL, 60
    points = (
        "BulkOperations.run: bulk.take_up",
        "BulkOperations.run: cancel.cancel",
        "BulkOperations.run: cancel.cancel_blocked",
        "BulkOperations.run: bulk.advance",
        "BulkOperations.run: before commit",
        "BulkOperations.run: after commit",
    )

    async def seed(self, stage: Stage) -> None:
        """Twenty of each kind."""
        for _ in range(2):
            await stage.submitted(10)
            await stage.submitted(10, extras=TaskExtras(delay_ms=3_600_000))
            await submit_keyed(stage, *[keyed() for _ in range(10)])

    async def check(self, stage: Stage) -> None:
        """Each has one end, and none lives."""
        await super().check(stage)
        ends = "select count(*) from task_run where final and outcome = 5"
        assert await stage.execute(ends) == self.count
        assert await stage.execute(_IN_PLACES) == 0


async def _failed(stage: Stage) -> None:
    """Thirty tasks have failed, and twenty of one key, of which by now only one may run at once."""
    await stage.submitted(30)
    opened = await stage.session()
    runs = await stage.assign(opened, 30)
    await submit_keyed(stage, *[keyed(most=20) for _ in range(20)])
    with_keys = await take(stage, 20)
    await stage.ended([end_of(run, Outcome.FAILED) for run in runs + with_keys])
    await follow(stage, *[run.task_id for run in with_keys])
    await stage.execute("update task set max_per_key = 1 where max_per_key = 20")


class BulkRetry(Bulk):
    """Of failed tasks, some with a key."""

    action, count = BulkAction.RETRY, 50
    points = (
        "BulkOperations.run: bulk.take_up",
        "BulkOperations.run: cancel.retry",
        "BulkOperations.run: bulk.advance",
        "BulkOperations.run: before commit",
        "BulkOperations.run: after commit",
    )

    async def seed(self, stage: Stage) -> None:
        """Store and fail them."""
        await _failed(stage)

    async def check(self, stage: Stage) -> None:
        """Each was reopened once; of the key one is ready, and the others wait."""
        await super().check(stage)
        assert await stage.execute("select count(*) from reopen") == self.count
        assert await stage.execute("select count(*) from live where run_number = 1") == self.count
        assert await stage.execute(_IN_PLACES) == self.count
        assert await stage.execute("select count(*) from holding") == 1
        assert await stage.execute("select count(*) from blocked") == 19


class BulkDismiss(Bulk):
    """Of the same."""

    action, count = BulkAction.DISMISS, 50
    points = (
        "BulkOperations.run: bulk.take_up",
        "BulkOperations.run: cancel.dismiss",
        "BulkOperations.run: replication.confirm",
        "BulkOperations.run: bulk.advance",
        "BulkOperations.run: before commit",
        "BulkOperations.run: after commit",
    )

    async def seed(self, stage: Stage) -> None:
        """Store and fail them."""
        await _failed(stage)

    async def check(self, stage: Stage) -> None:
        """Each is dismissed."""
        await super().check(stage)
        assert await stage.execute("select count(*) from dismissal") == self.count


def _operation(action: BulkAction) -> BulkOperation:
    now = datetime.now(UTC) + timedelta(minutes=1)
    selection = acted_on(action, Selection(queues=("default",)))
    assert selection is not None
    return BulkOperation(
        str(uuid.uuid4()), action, selection, "enough", "somebody", BulkState.RUNNING,
        lowest_id(now.timestamp()), 0, 0, now, None,
    )  # fmt: skip


PATHS: Final[dict[str, type[Path]]] = {
    "the sweep of followed tasks": Sweep,
    "ends and retries by clients": ByClients,
    "ends that a worker reports": ByAWorker,
    "a schedule's firing": Firing,
    "a bulk cancel": BulkCancel,
    "a bulk retry": BulkRetry,
    "a bulk dismissal": BulkDismiss,
}
