"""Bulk operations of which brokers are killed between every two statements."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from hyrex_broker.domain.bulk import BulkAction, BulkOperation, BulkState, acted_on
from hyrex_broker.domain.ids import lowest_id
from hyrex_broker.domain.model import Outcome, TaskExtras
from hyrex_broker.domain.selection import Selection
from hyrex_broker.storage.bulk import BulkStore
from tests.faults.killed import IN_PLACES, Path
from tests.integration.storage.keys import follow, keyed, submit_keyed, take
from tests.integration.storage.stage import Stage, end_of


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
        assert await stage.execute(IN_PLACES) == 0


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
        assert await stage.execute(IN_PLACES) == self.count
        assert await stage.execute("select count(*) from holding") == 1
        assert await stage.execute("select count(*) from blocked") == 19


class BulkDismiss(Bulk):
    """Of the same."""

    action, count = BulkAction.DISMISS, 50
    points = (
        "BulkOperations.run: bulk.take_up",
        "BulkOperations.run: cancel.dismiss",
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
