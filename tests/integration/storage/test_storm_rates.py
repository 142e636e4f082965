"""What the verdict of a storm reads of rates in a database; the storm itself is in tests/chaos."""

from hyrex_broker.domain.rates import DeclaredLimit, Rate
from tests.chaos.app import BURST
from tests.chaos.rates import note_assigns, wrong_rates
from tests.integration.storage.stage import Stage

LIMIT = ("task", "rated")
SLOW = Rate(1, 3_600_000, BURST)
"""So slow that another token comes neither while this runs nor while it is judged."""


async def take(stage: Stage, count: int) -> None:
    """Let one transaction assign up to so many."""
    lane = await stage.lane(name="rated")
    plan = stage.plan(await stage.session(), lane, count)
    await stage.assigns.assign_limited(plan, stage.names, {lane: [LIMIT]})


async def told(url: str) -> list[str]:
    """What is told, without its particulars."""
    return [" ".join(line.replace(":", "").split()[:3]) for line in await wrong_rates(url)]


async def test_assigns_over_a_rate_are_told_and_so_is_that_none_was_noted(database_url: str) -> None:
    """On a database of its own: it gets a trigger."""
    await note_assigns(database_url)
    async with Stage.on(database_url) as stage:
        await stage.lanes.declare_limits([DeclaredLimit(*LIMIT, 0, SLOW)])
        (ran, *_) = await stage.submitted(20, name="rated")
        assert await told(database_url) == []
        await stage.execute("insert into task_run values ($1, 0, 0, 2, true)", ran)
        assert await told(database_url) == ["no assign was"]
        await take(stage, 10)
        assert await stage.execute("select sum(runs) from storm.assign") == BURST
        assert await told(database_url) == []
        await stage.lanes.declare_limits([DeclaredLimit(*LIMIT, 10, None)])
        await take(stage, 10)
        assert await told(database_url) == ["over the rate"]
