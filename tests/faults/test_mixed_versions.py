"""Brokers of two versions on one database: the schema says which of them it serves (rule 21)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

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
    workflow_service_pb2_grpc,
)
from hyrex_broker.command import UNFIT_DATABASE
from hyrex_broker.domain.features import Feature
from tests.faults.doomed import Doomed
from tests.integration.engine.workflow_runs import sent
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


def test_a_broker_that_was_silent_when_what_it_does_not_know_was_used_ends(
    start_broker: StartBroker, database_url: str
) -> None:
    broker = start_broker()
    run_apart(execute(database_url, "insert into used_feature values ('telepathy')"))
    assert broker.process.wait() == 0
    assert "has used features that this broker does not know" in broker.process.output


Asks = Callable[[grpc.Channel], str]
"""Uses a feature; the reason why not, or nothing."""


def _sent(**options: Any) -> Asks:
    def ask(channel: grpc.Channel) -> str:
        task = task_pb2.NewTask(task_id=make_id(), name="greet", queue="default", payload=b"{}", **options)
        request = task_service_pb2.SubmitTasksRequest(tasks=[task])
        (result,) = task_service_pb2_grpc.TaskServiceStub(channel).SubmitTasks(request, timeout=60).results
        if result.error.reason == "FEATURE_NOT_READY":
            assert result.error.metadata["broker"] == "older"
            assert "upgrade that broker" in result.error.message
        return str(result.error.reason)

    return ask


def _called(call: Callable[[grpc.Channel], Any]) -> Asks:
    def ask(channel: grpc.Channel) -> str:
        try:
            call(channel)
        except grpc.RpcError as error:
            failure = call_failure(error)
            assert not failure.repeatable, "a client would ask again for as long as the older broker is there"
            assert failure.metadata["broker"] == "older"
            return failure.reason
        return ""

    return ask


def _put(**options: Any) -> Callable[[grpc.Channel], None]:
    def put(channel: grpc.Channel) -> None:
        task = task_pb2.NewTask(name="greet", queue="default", payload=b"{}", **options)
        definition = schedule_pb2.ScheduleDefinition(name="nightly", cron="0 3 * * *", task=task)
        request = schedule_service_pb2.PutScheduleRequest(definition=definition)
        schedule_service_pb2_grpc.ScheduleServiceStub(channel).PutSchedule(request, timeout=60)

    return put


def _submitted(channel: grpc.Channel) -> None:
    workflow_service_pb2_grpc.WorkflowServiceStub(channel).SubmitWorkflow(sent({"a": []}), timeout=60)


def _rated(channel: grpc.Channel) -> None:
    rate = task_pb2.Rate(count=5, period=HOUR)
    update = queue_service_pb2.UpdateQueueRequest(name="default", rate=rate)
    queue_service_pb2_grpc.QueueServiceStub(channel).UpdateQueue(update, timeout=60)


HOUR: Final = Duration(seconds=3600)
USES: Final[dict[Feature, list[Asks]]] = {
    Feature.EXPIRY: [_sent(expires_in=HOUR), _called(_put(expires_in=HOUR))],
    Feature.KEYS: [_sent(concurrency_key="k"), _sent(concurrency_key="k", max_per_key=2)],
    Feature.RATES: [_called(_rated)],
    Feature.KEYS_OF_SCHEDULES: [_called(_put(concurrency_key="k"))],
    Feature.FAIR_KEYS: [_sent(fair_key="k")],
    Feature.OUTSIDE: [_sent(outside=True)],
    Feature.WORKFLOWS: [_called(_submitted)],
}
"""Each way in which a client uses a feature: a new one has its line here."""


def test_each_feature_waits_until_older_brokers_have_gone_and_none_begins_where_it_was_used(
    database_url: str, tmp_path: Path
) -> None:
    assert {*USES} == {*Feature}
    older, newer, again = (
        Doomed(tmp_path / name, knows=knows)
        for name, knows in (("older", ()), ("newer", None), ("again", ("expiry",)))
    )
    options = ("--database-url", database_url, "--listen", "127.0.0.1:0", "--name")
    try:
        older.start(*options, "older")
        older.url()
        newer.start(*options, "newer")
        with grpc.insecure_channel(newer.url().removeprefix("grpc://")) as channel:
            assert _sent()(channel) == "", "what is plain is served"
            refused = {feature: {ask(channel) for ask in asks} for feature, asks in USES.items()}
            assert refused == {key: {"FEATURE_NOT_READY"} for key in Feature}
            assert older.stop() == 0
            eventually(lambda: _sent(expires_in=HOUR)(channel) == "")
            served = {feature: {ask(channel) for ask in asks} for feature, asks in USES.items()}
            assert served == {key: {""} for key in Feature}
        again.start(*options, "again")
        assert again.wait() == UNFIT_DATABASE
        lacking = ", ".join(sorted({*Feature} - {Feature.EXPIRY}))
        assert f"has used {lacking}, which this broker does not know" in again.output
    finally:
        for each in (older, newer, again):
            each.end()
