"""Doors that must be shut, at a real broker: what a token may send, serve and report, and what ends with
it."""

import time
from collections.abc import Iterable, Iterator
from typing import Any

import grpc
import pytest

from hyrex.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    task_pb2,
    task_service_pb2,
    task_service_pb2_grpc,
)
from hyrex.v1 import worker_service_pb2 as wire
from tests.integration.service.seeding import make_id
from tests.protocol_abuse.abuser import hello, reason_of, work
from tests.support.columns import assigned, completed, packed
from tests.support.postgres import connect, run_apart
from tests.support.processes import Processes, RunningBroker
from tests.support.tokens import bearer, made_by

ROOT = "root-of-these-tests"
WITHIN_S = 60.0
PROMISED_S = 5.0
LOADED_S = 15.0
"""What a machine may add that does much else. The times themselves: test_known_tokens."""
Metadata = tuple[tuple[str, str]]


@pytest.fixture(scope="module")
def broker(shared_url: str) -> Iterator[RunningBroker]:
    """One broker for all tests of this file."""
    owner = Processes()
    yield owner.broker(shared_url, env={"HYREX_TOKEN": f"another,{ROOT}"})
    owner.end()


@pytest.fixture(scope="module")
def second(shared_url: str) -> Iterator[grpc.Channel]:
    """Another broker of the same cluster."""
    owner = Processes()
    broker = owner.broker(shared_url, env={"HYREX_TOKEN": ROOT})
    with grpc.insecure_channel(broker.address) as channel:
        yield channel
    owner.end()


@pytest.fixture(scope="module")
def channel(broker: RunningBroker) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(broker.address) as channel:
        yield channel


@pytest.fixture
def token(channel: grpc.Channel, request: pytest.FixtureRequest) -> Any:
    """Makes tokens, as metadata; `revoke` revokes them."""

    class Tokens:
        made: dict[str, str]

        def __init__(self) -> None:
            self.made = {}

        def __call__(self, name: str, scopes: str, *queues: str) -> Metadata:
            full = f"{request.node.name[-60:]}-{name}".replace(" ", "-")
            secret = made_by(channel, ROOT, full, scopes, *queues)
            self.made[name] = full
            return bearer(secret)

        def revoke(self, name: str, at: grpc.Channel = channel) -> None:
            stub = admin_service_pb2_grpc.AdminServiceStub(at)
            stub.RevokeToken(
                admin_service_pb2.RevokeTokenRequest(name=self.made[name]),
                metadata=bearer(ROOT),
                timeout=WITHIN_S,
            )

    return Tokens()


def task(queue: str, **changes: Any) -> task_pb2.NewTask:
    return task_pb2.NewTask(task_id=make_id(), name="doors", queue=queue, payload=b"{}", **changes)


def reasons(results: Iterable[Any]) -> list[str]:
    return [result.error.reason for result in results]


def open_work(channel: grpc.Channel, metadata: Metadata, *patterns: str, **changes: Any) -> "Worker":
    return Worker(channel, metadata, *patterns, **changes)


class Worker:
    """A Work stream that stays open until it is closed."""

    def __init__(self, channel: grpc.Channel, metadata: Metadata, *patterns: str, **changes: Any) -> None:
        import queue

        self._out: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        fields = {"tasks": [wire.TaskDefinition(name="doors", queue=patterns[0], pool="all")]} | changes
        self.send(hello(queue_patterns=patterns, **fields))
        frames = iter(self._out.get, None)
        self.call = work(channel)(frames, timeout=2 * WITHIN_S, metadata=metadata)

    def send(self, frame: wire.WorkRequest) -> None:
        self._out.put(frame.SerializeToString())

    def read(self, kind: str) -> Any:
        while True:
            frame = next(self.call)
            if frame.WhichOneof("frame") == kind:
                return getattr(frame, kind)

    def reason(self) -> str:
        """Why the stream ends, when all before is read."""
        with pytest.raises(grpc.RpcError):
            for _ in self.call:
                pass
        return reason_of(self.call)

    def close(self) -> None:
        self._out.put(None)
        self.call.cancel()


def test_tasks_of_other_queues_are_refused_alone_in_both_forms(channel: grpc.Channel, token: Any) -> None:
    own = token("sender", "submit", "mine*")
    stub = task_service_pb2_grpc.TaskServiceStub(channel)
    parent = make_id()
    tasks = [
        task("mine-1"),
        task("theirs"),
        task("mine-2", parent_id=parent),
        task("theirs", parent_id=parent),
    ]
    request = task_service_pb2.SubmitTasksRequest(tasks=tasks)
    answer = stub.SubmitTasks(request, metadata=own, timeout=WITHIN_S)
    assert reasons(answer.results) == ["", "RIGHT_MISSING", "", "RIGHT_MISSING"]
    groups = [
        task_service_pb2.TaskGroup(
            terms=task_pb2.NewTask(name="doors", queue=queue), task_ids=packed([make_id()]), payloads=[b"{}"]
        )
        for queue in ("theirs", "mine-1")
    ]
    frame = task_service_pb2.StreamSubmitRequest(sequence=1, groups=groups)
    (response,) = stub.StreamSubmit(iter([frame]), metadata=own, timeout=WITHIN_S)
    assert [(each.place, each.result.error.reason) for each in response.results] == [(0, "RIGHT_MISSING")]


def test_a_key_that_a_task_of_anothers_queue_holds_tells_nothing_of_it(
    channel: grpc.Channel, token: Any
) -> None:
    stub = task_service_pb2_grpc.TaskServiceStub(channel)
    held = task("theirs", idempotency_key="order-1")
    held_id = held.task_id
    stub.SubmitTasks(
        task_service_pb2.SubmitTasksRequest(tasks=[held]), metadata=bearer(ROOT), timeout=WITHIN_S
    )
    own = token("sender", "submit", "mine")
    tasks = [task("mine", idempotency_key="order-1"), task("mine", idempotency_key="order-2")]
    answer = stub.SubmitTasks(
        task_service_pb2.SubmitTasksRequest(tasks=tasks), metadata=own, timeout=WITHIN_S
    )
    assert reasons(answer.results) == ["RIGHT_MISSING", ""]
    assert held_id not in str(answer)
    error = answer.results[0].error
    assert "the scope 'submit' for the queue of the task that holds its key" in error.message
    assert dict(error.metadata) == {"scope": "submit"}


@pytest.mark.parametrize("patterns", [["theirs"], ["*"], ["mine", "theirs"], ["min*"]])
def test_a_worker_may_not_serve_what_its_token_is_not_for(
    channel: grpc.Channel, token: Any, patterns: list[str]
) -> None:
    own = token("worker", "work", "mine*")
    assert open_work(channel, own, *patterns).reason() == "RIGHT_MISSING"


def test_what_a_worker_declares_of_other_queues_is_left_out(
    channel: grpc.Channel, token: Any, shared_url: str
) -> None:
    """A limit of a task counts in every queue; this one's task is known in another's."""
    stub = task_service_pb2_grpc.TaskServiceStub(channel)
    request = task_service_pb2.SubmitTasksRequest(tasks=[task("theirs"), task("mine")])
    stub.SubmitTasks(request, metadata=bearer(ROOT), timeout=WITHIN_S)
    worker = open_work(
        channel,
        token("worker", "work", "mine*"),
        "mine",
        tasks=[
            wire.TaskDefinition(name="doors", queue="mine", pool="all", max_concurrency=1),
            wire.TaskDefinition(name="of-mine", queue="mine", pool="all", max_concurrency=2),
            wire.TaskDefinition(name="of-theirs", queue="theirs", pool="all", max_concurrency=3),
        ],
        queues=[
            wire.QueueDefinition(name="mine-q", concurrency_limit=4),
            wire.QueueDefinition(name="theirs-q", concurrency_limit=5),
        ],
    )
    worker.read("welcome")
    worker.close()
    rows = run_apart(fetched(shared_url, "select scope, name, maximum from concurrency_limit order by name"))
    assert [tuple(row) for row in rows] == [("queue", "mine-q", 4), ("task", "of-mine", 2)]
    lanes = run_apart(fetched(shared_url, "select name from lane where name like 'of-%'"))
    assert [row["name"] for row in lanes] == ["of-mine"]
    queues = run_apart(fetched(shared_url, "select name from queue where name like '%-q'"))
    assert [row["name"] for row in queues] == ["mine-q"]


def test_a_limit_of_a_task_is_left_out_if_a_queue_has_it_that_this_broker_has_not_met(
    channel: grpc.Channel, token: Any, shared_url: str
) -> None:
    """As after a restart: a broker knows only what it has met, and the limit would hold for all."""
    made = (
        "insert into lane (namespace, queue, name, limited) values (0, 'theirs', 'unmet', false) returning 1"
    )
    run_apart(fetched(shared_url, made))
    definition = wire.TaskDefinition(name="unmet", queue="mine", pool="all", max_concurrency=1)
    worker = open_work(channel, token("worker", "work", "mine*"), "mine", tasks=[definition])
    worker.read("welcome")
    worker.close()
    limits = "select maximum from concurrency_limit where name = 'unmet'"
    assert run_apart(fetched(shared_url, limits)) == []


async def fetched(url: str, statement: str) -> list[Any]:

    connection = await connect(url)
    try:
        return list(await connection.fetch(statement))
    finally:
        await connection.close()


def test_a_report_with_a_lease_of_anothers_worker_is_stale(channel: grpc.Channel, token: Any) -> None:
    honest = open_work(channel, token("honest", "work", "lease-a"), "lease-a")
    forger = open_work(channel, token("forger", "work", "lease-b"), "lease-b")
    honest.read("welcome")
    forger.read("welcome")
    stub = task_service_pb2_grpc.TaskServiceStub(channel)
    request = task_service_pb2.SubmitTasksRequest(tasks=[task("lease-a")])
    stub.SubmitTasks(request, metadata=bearer(ROOT), timeout=WITHIN_S)
    (run,) = assigned(honest.read("assignments"))
    for worker, stale in ((forger, [run.token]), (honest, [])):
        ended = completed([(run.task_id, run.token)], b'"result"')
        worker.send(wire.WorkRequest(report=wire.Report(report_id=1, completed=[ended])))
        assert list(worker.read("report_ack").stale_tokens) == stale
        worker.close()


def test_a_revoked_tokens_streams_end(channel: grpc.Channel, second: grpc.Channel, token: Any) -> None:
    """All four kinds, each while it has nothing to send; those of another token stay. The revocation is made
    at another broker, which tells nobody: the worst case of five seconds."""
    own = token("own", "submit read work")
    other = open_work(channel, token("other", "work"), "streams")
    worker = open_work(channel, own, "streams")
    other.read("welcome")
    worker.read("welcome")
    stub = task_service_pb2_grpc.TaskServiceStub(channel)
    waiting = task("never-served")
    waiting_id = waiting.task_id
    import queue

    frames: queue.SimpleQueue[Any] = queue.SimpleQueue()
    submit = stub.StreamSubmit(iter(frames.get, None), metadata=own, timeout=2 * WITHIN_S)
    group = task_service_pb2.TaskGroup(
        terms=task_pb2.NewTask(name="doors", queue="never-served"),
        task_ids=packed([waiting_id]),
        payloads=[b"{}"],
    )
    frames.put(task_service_pb2.StreamSubmitRequest(sequence=1, groups=[group]))
    next(submit)
    watch = stub.WatchTasks(
        task_service_pb2.WatchTasksRequest(task_ids=[waiting_id]), metadata=own, timeout=2 * WITHIN_S
    )
    next(watch)
    admin = admin_service_pb2_grpc.AdminServiceStub(channel)
    cluster = admin.WatchCluster(admin_service_pb2.WatchClusterRequest(), metadata=own, timeout=2 * WITHIN_S)
    next(cluster)
    token.revoke("own", second)
    began = time.monotonic()
    assert worker.reason() == "TOKEN_INVALID"
    for stream in (submit, watch, cluster):
        with pytest.raises(grpc.RpcError):
            for _ in stream:
                pass
        assert reason_of(stream) == "TOKEN_INVALID"
    assert time.monotonic() - began < PROMISED_S + LOADED_S
    frames.put(None)
    other.send(wire.WorkRequest(heartbeat=wire.Heartbeat(sequence=1)))
    assert other.read("heartbeat_ack").sequence == 1
    other.close()


def test_no_token_is_logged(broker: RunningBroker, channel: grpc.Channel, token: Any) -> None:
    """Nor is one that is refused, or printed by SIGUSR1."""
    import signal

    secret = token("own", "read")[0][1].removeprefix("Bearer ")
    stub = task_service_pb2_grpc.TaskServiceStub(channel)
    for metadata in (bearer(secret), bearer(secret[:-1] + "~"), (("authorization", secret),)):
        with pytest.raises(grpc.RpcError):
            stub.SubmitTasks(task_service_pb2.SubmitTasksRequest(), metadata=metadata, timeout=WITHIN_S)
    broker.process.signal(signal.SIGUSR1)
    broker.process.wait_for("=== end of state")
    for hidden in (secret, secret[6:-6], ROOT):
        assert hidden not in broker.process.output
