"""Brokers of two versions on one database: the schema says which of them it serves (rule 21)."""

from tests.integration.storage.conftest import execute
from tests.support.postgres import run_apart
from tests.support.processes import StartBroker

_OLDEST = "(select min(id) from broker)"


def test_a_broker_that_the_schema_does_not_serve_any_more_drains_beside_one_that_it_serves(
    start_broker: StartBroker, database_url: str
) -> None:
    """A migration of a later version has run. What the older broker knows is what its row says."""
    older, newer = start_broker(), start_broker()
    run_apart(execute(database_url, f"update broker set knows = 0 where id = {_OLDEST}"))
    assert older.process.wait() == 0
    assert "does not serve this broker any more" in older.process.output
    assert newer.process.running
    assert newer.process.terminate() == 0
    assert "does not serve this broker" not in newer.process.output
