"""A queue and a task name have one plain lane, whatever others they have beside it."""

import pytest

from hyrex_broker.engine.lane_directory import Directory
from hyrex_broker.storage.lanes import LaneStore
from tests.integration.storage.stage import Stage

PAIR = ("default", "work")


@pytest.mark.parametrize(("followed", "bucket"), [(True, 0), (False, 7)])
async def test_another_lane_of_a_pair_does_not_stand_for_the_plain_one(
    stage: Stage, followed: bool, bucket: int
) -> None:
    other = await stage.execute(
        "insert into lane (namespace, queue, name, followed, bucket, limited)"
        " values (0, 'default', 'work', $1, $2, false) returning id",
        followed,
        bucket,
    )
    (plain,) = await LaneStore(stage.database).intern({PAIR}, 1)
    assert plain.is_new
    assert plain.lane_id != other
    for order in ([plain.lane_id, other], [other, plain.lane_id]):
        directory = Directory(LaneStore(stage.database))
        for lane in order:
            await directory.meet([lane])
        assert directory.find(*PAIR) == plain.lane_id
        assert set(directory.names) == {plain.lane_id, other}
        assert set(directory.members(("queue", "default"))) == {plain.lane_id, other}


async def test_a_pair_that_is_known_makes_up_for_none_that_is_missing(stage: Stage) -> None:
    """As many rows as pairs do not tell that each pair has one."""
    lanes = LaneStore(stage.database)
    await lanes.intern({PAIR}, 1)
    await stage.execute(
        "insert into lane (namespace, queue, name, followed, limited)"
        " values (0, 'default', 'work', true, false)"
    )
    found = await lanes.intern({PAIR, ("default", "more")}, 2)
    assert {(lane.queue, lane.name) for lane in found} == {PAIR, ("default", "more")}
