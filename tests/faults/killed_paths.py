"""Paths of which brokers are killed between every two statements (test_killed_between_statements.py).

To add a path: a subclass of Path, and its line in PATHS. Its points are all that its loops come by (the test
fails if there are others), and statements that something else makes, by their bare names.
"""

from dataclasses import replace
from itertools import pairwise
from typing import Final

import grpc

from hyrex.v1.task_service_pb2 import CancelTasksRequest, RetryTasksRequest
from hyrex.v1.task_service_pb2_grpc import TaskServiceStub
from hyrex_broker.domain.model import Outcome, TaskId
from tests.chaos.record import digest
from tests.faults.doomed import Doomed
from tests.faults.killed import IN_PLACES, Path
from tests.faults.killed_bulk import BulkCancel, BulkDismiss, BulkRetry
from tests.faults.killed_submits import KeyedHandOff
from tests.faults.killed_workflows import Workflows
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


class Sweep(Path):
    """What was never followed, since whoever recorded the end was killed: one waits for each such end."""

    loops = ("Follower._follow_told", "Sweep.run")
    points = (
        "Sweep.run: follow.elected",
        "Sweep.run: marks.load_marks",
        "Sweep.run: follow.ended",
        "Sweep.run: follow.entered",
        "Sweep.run: follow.dead_seats",
        "Sweep.run: follow.stuck",
        "Sweep.run: workflows.waiting",
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
        assert await stage.execute(IN_PLACES) == len(self.waiting)


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
        "ScheduledSubmits._fire_when_due: lanes.intern",
        "ScheduledSubmits._fire_when_due: lanes.renew",
        "ScheduledSubmits._fire_when_due: lanes.add_queues",
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
        assert await stage.execute(IN_PLACES) == self.made + 1
        assert not await stage.execute("select count(*) from schedule where next_at <= now()")


PATHS: Final[dict[str, type[Path]]] = {
    "the sweep of followed tasks": Sweep,
    "ends and retries by clients": ByClients,
    "ends that a worker reports": ByAWorker,
    "a hand-off of tasks with keys": KeyedHandOff,
    "a schedule's firing": Firing,
    "workflows": Workflows,
    "a bulk cancel": BulkCancel,
    "a bulk retry": BulkRetry,
    "a bulk dismissal": BulkDismiss,
}
