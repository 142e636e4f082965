"""Of a slot one task is stored, also where two ask for it at once (rule 34)."""

from datetime import UTC, datetime

from hyrex_broker.domain.schedules import Cause
from hyrex_broker.storage.schedule_rows import SlotTask
from hyrex_broker.storage.schedules import ScheduleStore
from tests.integration.engine.scheduled import definition, next_leap_day
from tests.integration.storage.stage import Stage, make_id

SLOT = datetime(2026, 1, 1, tzinfo=UTC)


async def test_of_two_that_ask_for_a_slot_the_second_stores_nothing(stage: Stage, rival: Stage) -> None:
    """Each has seen that the slot has no task before either stored one."""
    wanted, lane = definition(), await stage.lane()
    assert await ScheduleStore(stage.database).put(wanted, next_leap_day(), next_leap_day(), None)
    stored = [
        await ScheduleStore(each.database).fire_extra(
            [SlotTask(wanted.name, SLOT, make_id(), lane, Cause.BACKFILL, None)], wanted.named
        )
        for each in (stage, rival)
    ]
    assert [len(each) for each in stored] == [1, 0]
    ((found,),) = await stage.database.fetch("select id::text from task")
    assert found == stored[0][0].task_id
    assert await stage.execute("select count(*) from ready") == 1
