"""The statements as the benchmark of the bare database speaks them: they change with the broker's."""

from benchmarks.actors import sql_session
from tests.integration.storage.stage import Stage, make_id


async def test_benchmark_of_the_bare_statements_stores_assigns_and_records(stage: Stage) -> None:
    ids = sorted(make_id() for _ in range(20))
    connection = await sql_session.connect(stage.database.url)
    try:
        lane = await sql_session.Lane.make(connection)
        await sql_session.submit(connection, lane, ids)
        rows = await sql_session.assign(connection, lane, len(ids))
        assert sorted(str(row["task_id"]) for row in rows) == ids
        await sql_session.report(connection, rows)
    finally:
        await connection.close()
    assert await stage.execute("select count(*) from task_run where outcome = 2") == len(ids)
    assert await stage.execute("select count(*) from lease") == 0
