"""Brokers of two versions on one database: the schema says which of them it serves (rule 21)."""

import grpc

from hyrex.v1 import task_pb2, task_service_pb2, task_service_pb2_grpc
from tests.integration.service.seeding import make_id
from tests.integration.storage.conftest import execute
from tests.support.eventually import eventually
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


def test_what_an_older_broker_would_break_is_refused_until_it_is_gone(
    start_broker: StartBroker, database_url: str
) -> None:
    """A task that expires would run late at the older one. What that one knows is what its row says."""
    older = start_broker("--name", "older")
    run_apart(execute(database_url, f"update broker set features = '{{}}' where id = {_OLDEST}"))
    newer = start_broker("--name", "newer")
    with grpc.insecure_channel(newer.address) as channel:
        refused, plain = _results(channel)
        assert plain.outcome == task_service_pb2.SUBMIT_OUTCOME_STORED
        assert refused.error.reason == "FEATURE_NOT_READY"
        assert refused.error.metadata["feature"] == "expiry"
        assert refused.error.metadata["broker"] == "older"
        assert "upgrade that broker" in refused.error.message
        assert older.process.terminate() == 0
        eventually(lambda: _results(channel)[0].outcome == task_service_pb2.SUBMIT_OUTCOME_STORED)


def _results(channel: grpc.Channel) -> list[task_service_pb2.SubmitResult]:
    """What becomes of a task that expires, and of a plain one."""
    expiring, plain = (
        task_pb2.NewTask(task_id=make_id(), name="greet", queue="default", payload=b"{}") for _ in range(2)
    )
    expiring.expires_in.FromSeconds(3600)
    request = task_service_pb2.SubmitTasksRequest(tasks=[expiring, plain])
    answer = task_service_pb2_grpc.TaskServiceStub(channel).SubmitTasks(request, timeout=60)
    return list(answer.results)
