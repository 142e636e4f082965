"""What an assign brings along of payloads, and what is read after it."""

from hyrex_broker.domain.ids import hex_id
from tests.integration.storage.stage import Stage
from tests.support.assigned import runs_of


async def test_large_payloads_come_apart_from_their_assign(stage: Stage) -> None:
    (task_id,) = await stage.submitted(payload=b"x" * 100_000)
    opened, lane = await stage.session(), await stage.lane()
    (taken,) = runs_of((await stage.assigns.assign(stage.plan(opened, lane), stage.names)).blocks)
    assert taken.size == 100_000
    assert await stage.assigns.payloads([hex_id(task_id)]) == {hex_id(task_id): b"x" * 100_000}


async def test_an_assign_of_many_brings_small_payloads_only(stage: Stage) -> None:
    """A byte budget (rule 15): a thousand payloads of 64 KiB would outlast the statement's timeout."""
    await stage.submitted(payload=b"x" * 20_000)
    await stage.submitted(payload=b"x" * 8_000)
    opened, lane = await stage.session(), await stage.lane()
    result = await stage.assigns.assign(stage.plan(opened, lane, 1000), stage.names)
    assert sorted(run.size for run in runs_of(result.blocks)) == [0, 20_000]
    await stage.submitted(payload=b"x" * 20_000)
    (taken,) = runs_of((await stage.assigns.assign(stage.plan(opened, lane, 100), stage.names)).blocks)
    assert len(taken.payload) == 20_000
