"""Ready tasks whose lane is not stored: a failover or a restore lost its row."""

import pytest

from hyrex_broker.engine.lane_directory import Directory
from hyrex_broker.storage.examine import examine
from hyrex_broker.storage.lanes import LaneStore
from tests.integration.storage.stage import Stage


async def test_a_lane_that_is_not_stored_is_named_once_and_by_the_doctor(
    stage: Stage, storage_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    kept = await stage.lane("kept")
    (task_id,) = await stage.submitted()
    await stage.submitted(queue="kept")
    lost = await stage.lane()
    await stage.execute("delete from lane where id = $1", lost)
    directory = Directory(LaneStore(stage.database))
    for _ in range(2):
        await directory.meet({lane for lane, _ in await stage.assigns.lanes_with_work()})
    (said,) = [record for record in caplog.records if "not stored" in record.getMessage()]
    assert said.__dict__["lanes"] == [lost]
    assert kept in directory.names
    (found,) = [each for each in await examine(storage_url) if each.what == "lanes"]
    assert found.found.endswith(f": {lost} (task {task_id})")
    assert "lane" in found.remedy
