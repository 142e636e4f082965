"""Brokers of two versions on one database: the schema says which of them it serves (rule 21)."""

import grpc
from google.protobuf.duration_pb2 import Duration

from hyrex.transport.errors import call_failure
from hyrex.v1 import (
    queue_service_pb2,
    queue_service_pb2_grpc,
    schedule_pb2,
    schedule_service_pb2,
    schedule_service_pb2_grpc,
    task_pb2,
    task_service_pb2,
    task_service_pb2_grpc,
)
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
        plain, *refused = _results(channel)
        assert plain.outcome == task_service_pb2.SUBMIT_OUTCOME_STORED
        assert [each.error.metadata["feature"] for each in refused] == [
            "expiry", "concurrency keys", "fair keys",
        ]  # fmt: skip
        for each in refused:
            assert each.error.reason == "FEATURE_NOT_READY"
            assert each.error.metadata["broker"] == "older"
            assert "upgrade that broker" in each.error.message
        assert _refusals(channel) == ["rates", "expiry"]
        assert older.process.terminate() == 0
        eventually(
            lambda: {each.outcome for each in _results(channel)} == {task_service_pb2.SUBMIT_OUTCOME_STORED}
        )
        assert _refusals(channel) == []


def _refusals(channel: grpc.Channel) -> list[str]:
    """Which features are refused to an operator who sets a rate, and puts a schedule of tasks that expire."""
    task = task_pb2.NewTask(name="greet", queue="default", payload=b"{}", expires_in=Duration(seconds=3600))
    definition = schedule_pb2.ScheduleDefinition(name="nightly", cron="0 3 * * *", task=task)
    rate = task_pb2.Rate(count=5, period=Duration(seconds=60))
    update = queue_service_pb2.UpdateQueueRequest(name="default", rate=rate)
    put = schedule_service_pb2.PutScheduleRequest(definition=definition)
    queues = queue_service_pb2_grpc.QueueServiceStub(channel)
    schedules = schedule_service_pb2_grpc.ScheduleServiceStub(channel)
    refused = []
    for call in (
        lambda: queues.UpdateQueue(update, timeout=60),
        lambda: schedules.PutSchedule(put, timeout=60),
    ):
        try:
            call()
        except grpc.RpcError as error:
            failure = call_failure(error)
            assert failure.reason == "FEATURE_NOT_READY"
            assert not failure.repeatable, "a client would ask again for as long as the older broker is there"
            refused.append(failure.metadata["feature"])
    return refused


def _results(channel: grpc.Channel) -> list[task_service_pb2.SubmitResult]:
    """What becomes of a plain task, one that expires, and of one with each kind of key."""
    plain, expiring, keyed, fair = (
        task_pb2.NewTask(task_id=make_id(), name="greet", queue="default", payload=b"{}") for _ in range(4)
    )
    expiring.expires_in.FromSeconds(3600)
    keyed.concurrency_key = fair.fair_key = make_id()
    request = task_service_pb2.SubmitTasksRequest(tasks=[plain, expiring, keyed, fair])
    answer = task_service_pb2_grpc.TaskServiceStub(channel).SubmitTasks(request, timeout=60)
    return list(answer.results)
