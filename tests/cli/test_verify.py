"""`hyrex verify`: what it prints, and its exit status."""

import json
import sys

from tests.integration.storage.stage import make_id
from tests.support.postgres import connect, run_apart
from tests.support.process import Process
from tests.support.processes import Processes

HYREX = (sys.executable, "-m", "hyrex.cli", "verify")
LEFT = str(make_id())


def verified(processes: Processes, url: str, *arguments: str) -> tuple[int, Process]:
    """The exit status of `hyrex verify`, and the process."""
    found = processes.start("verify", *HYREX, *arguments, env={"HYREX_DATABASE_URL": url})
    return found.wait(), found


async def damage(url: str) -> None:
    """Leave a key of a task that is not stored."""
    connection = await connect(url)
    await connection.execute("insert into idempotency values (0, 'work', 'once', $1)", LEFT)
    await connection.close()


def test_what_is_wrong_is_told_with_ids_and_remedy_and_repaired_on_wish(
    processes: Processes, database_url: str
) -> None:
    run_apart(damage(database_url))
    status, told = verified(processes, database_url)
    assert status == 1
    assert "WRONG  key_of_nothing: 1 idempotency keys" in told.output
    assert LEFT in told.output
    assert "hyrex verify --repair" in told.output
    status, told = verified(processes, database_url, "--repair", "--json")
    assert status == 0
    repaired = [{"kind": "key_of_nothing", "count": 1, "ids": [LEFT]}]
    assert json.loads(told.output) == {"tasks": 0, "findings": [], "repaired": repaired}


def test_a_database_that_it_cannot_look_at_is_status_2(processes: Processes, empty_database_url: str) -> None:
    status, told = verified(processes, empty_database_url)
    assert (status, "no schema hyrex" in told.output) == (2, True)
    status, told = verified(processes, "postgresql://127.0.0.1:1/none")
    assert (status, "cannot reach Postgres" in told.output) == (2, True)
