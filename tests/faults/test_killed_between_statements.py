"""Brokers are killed between every two statements of a path, by SIGKILL: the next one goes on, and nothing is
lost, done twice, over a maximum or stuck."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

import grpc
import pytest

from hyrex_broker.storage.verify import verify
from tests.faults.doomed import Doomed
from tests.faults.field import Field
from tests.faults.killed_paths import PATHS
from tests.integration.storage.stage import Stage

_CHANGE_NOTHING: Final = ("reads.", "set local ", "cancel.standing", "replication.confirm")
"""Looks, and settings of a transaction."""
_ALL_SILENT: Final = "update broker set seen_at = 'epoch'"


@pytest.mark.parametrize("name", PATHS)
async def test_what_a_killed_broker_leaves_is_ended_by_the_next(
    name: str, field: Field, tmp_path: Path
) -> None:
    path = PATHS[name](field)
    arguments = ("--database-url", field.database_url, "--listen", path.listen)
    passed = set[str]()
    async with Stage.on(field.database_url) as stage:
        for number, point in enumerate([*path.points, None]):
            await path.prepare(stage, number)
            await stage.execute(_ALL_SILENT)
            broker = Doomed(tmp_path / str(number), point)
            broker.start(*arguments)
            try:
                if point is not None:
                    with suppress(grpc.RpcError):
                        path.ask(broker, number)
                    broker.require_killed()
                else:
                    path.ask(broker, number)
                    async with asyncio.timeout(60):
                        while not await path.is_done(stage):
                            await asyncio.sleep(0.02)
                        # A session that has just expired is swept in a moment.
                        while findings := (await verify(field.database_url, long=timedelta(0))).findings:
                            assert findings.keys() == {"unswept"}, findings
                            await asyncio.sleep(0.1)
            finally:
                broker.end()
                passed |= broker.passed
        await path.check(stage)
    of_loops = {
        each
        for each in passed
        if each.partition(": ")[0] in path.loops and not each.partition(": ")[2].startswith(_CHANGE_NOTHING)
    }
    assert {each.partition(": ")[2] for each in path.sometimes} <= set(path.points)
    of_loops -= set(path.sometimes)
    named = {each for each in path.points if each.partition(": ")[0] in path.loops}
    assert of_loops - named == set(), "no broker is killed after these"
    assert of_loops == named
