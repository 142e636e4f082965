"""Sends on a real channel: what travels, and what comes back."""

import asyncio
import time
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid4

import grpc
import pytest

from hyrex import (
    HyrexRegistry,
    PayloadTooLarge,
    SendRejected,
    send_many,
    send_many_async,
    wait_all,
)
from hyrex.backend.origin import Origin
from hyrex.backend.outgoing import Outgoing
from hyrex.context import HyrexContext, bind_context
from hyrex.errors import SendManyFailed, TokenInvalid
from hyrex.transport.convert import submit_groups
from hyrex.v1 import task_pb2, task_service_pb2
from hyrex.v1.task_pb2 import NewTask
from tests.support.scripted_tasks import ScriptedTasks, Server, refuse, rejected
from tests.unit.sdk.sent_tasks import add, careful

hy = HyrexRegistry()


def test_send_stores_the_task_under_the_id_of_its_handle(server: Server, tasks: ScriptedTasks) -> None:
    handle = add.send(1, b=2)
    (task,) = tasks.submitted
    assert isinstance(handle.id, UUID)
    assert (task.task_id, task.name, task.queue) == (str(handle.id), "add", "work")
    assert (task.payload, task.priority, task.max_retries) == (b'{"a":1,"b":2}', 5, 2)
    assert not task.HasField("timeout")
    assert not task.HasField("retry_delay")
    assert (handle.task_name, handle.status, handle.task_runs) == ("add", "queued", [])
    assert not handle.deduplicated


def test_options_of_task_and_send_reach_the_wire(server: Server, tasks: ScriptedTasks) -> None:
    when = datetime(2030, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    careful.send({})
    handle = careful.with_config(
        queue="q2", priority=1, max_retries=7, timeout_seconds=None, run_at=when
    ).send({})
    careful.with_config(delay=timedelta(minutes=1), idempotency_key="once").with_config(queue="q3").send({})
    plain, configured, chained = tasks.submitted
    assert (plain.timeout.ToTimedelta(), plain.priority) == (timedelta(seconds=1.5), 9)
    assert plain.retry_delay.seconds == 30
    assert (configured.queue, configured.priority, configured.max_retries) == ("q2", 1, 7)
    assert not configured.HasField("timeout")
    assert configured.run_at.ToDatetime(tzinfo=UTC) == when
    assert handle.status == "scheduled"
    assert (chained.queue, chained.delay.seconds, chained.idempotency_key) == ("q3", 60, "once")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"run_at": datetime(2030, 1, 1)}, "run_at must have a timezone"),
        (
            {"run_at": datetime.min.replace(tzinfo=timezone(timedelta(hours=5)))},
            "run_at must be within the years 1 to 9999",
        ),
        ({"delay": 10**400}, "delay must be 0"),
        ({"run_at": datetime(2030, 1, 1, tzinfo=UTC), "delay": 1}, "delay or run_at, not both"),
        ({"delay": -1}, "delay must be"),
        ({"priority": 11}, "priority must be 1..10"),
        ({"max_retries": -1}, "max_retries must be 0"),
        ({"queue": ""}, "queue must have"),
        ({"idempotency_key": "x" * 256}, "idempotency_key must have"),
        ({"timeout_seconds": 0}, "timeout_seconds must be above 0"),
    ],
)
def test_bad_option_of_a_send_is_refused_where_it_is_written(options: dict[str, object], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        add.with_config(**options)  # type: ignore[arg-type]


def test_bad_arguments_never_leave(server: Server, tasks: ScriptedTasks) -> None:
    with pytest.raises(ValueError, match="add: a: "):
        add.send("x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="missing a required argument"):
        add.send()  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="add: a: "):
        send_many(add.call(n) for n in (1, 2, "x"))  # type: ignore[arg-type]
    assert not tasks.frames


def test_rejected_task_raises_with_reason_and_nothing_else_of_its_frame_is_harmed(
    server: Server, tasks: ScriptedTasks
) -> None:
    refuse_odd = rejected("INVALID_FIELD", "queue is closed", field="queue")

    def answer(task: NewTask) -> task_service_pb2.SubmitResult:
        if b'"a":1' in task.payload:
            return refuse_odd(task)
        return task_service_pb2.SubmitResult(outcome=task_service_pb2.SUBMIT_OUTCOME_REPEATED)

    tasks.answer = answer
    with pytest.raises(SendRejected, match=r"the broker refused add: queue is closed") as caught:
        add.send(1)
    assert (caught.value.reason, caught.value.metadata) == ("INVALID_FIELD", {"field": "queue"})
    with pytest.raises(SendManyFailed, match="1 of 3 tasks were not acknowledged") as many:
        send_many(add.call(n) for n in range(3))
    assert list(many.value.failures) == [1]
    assert [handle.status for handle in many.value.handles] == ["queued", None, "queued"]


def test_brokers_own_payload_limit_raises_the_same_error(server: Server, tasks: ScriptedTasks) -> None:
    tasks.answer = rejected("PAYLOAD_TOO_LARGE", limit_bytes="10", size_bytes="20")
    with pytest.raises(PayloadTooLarge) as caught:
        add.send(1)
    assert (caught.value.limit_bytes, caught.value.size_bytes) == (10, 20)


def test_idempotency_key_that_hits_gives_the_first_tasks_id(server: Server, tasks: ScriptedTasks) -> None:
    first = uuid4()
    tasks.answer = lambda task: task_service_pb2.SubmitResult(
        task_id=str(first), outcome=task_service_pb2.SUBMIT_OUTCOME_DEDUPLICATED
    )
    handle = add.with_config(idempotency_key="k").send(1)
    assert handle.deduplicated
    assert (handle.id, handle.status, handle.arguments_differ) == (first, None, False)  # of an older broker
    handle.resend()
    assert handle.deduplicated


def test_many_keys_that_hit_with_other_arguments_are_one_warning(
    server: Server, tasks: ScriptedTasks, caplog: pytest.LogCaptureFixture
) -> None:
    tasks.answer = lambda task: task_service_pb2.SubmitResult(
        task_id=str(uuid4()),
        outcome=task_service_pb2.SUBMIT_OUTCOME_DEDUPLICATED,
        payload_differs=True,
        status=task_pb2.TASK_STATUS_FAILED,
    )
    handles = send_many(add.with_config(idempotency_key=f"k{n}").call(n) for n in range(100))
    assert {(handle.arguments_differ, handle.status) for handle in handles} == {(True, "failed")}
    (warning,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert "(nor 99 more of this call)" in warning


def test_a_debounced_send_with_other_arguments_warns_of_nothing(
    server: Server, tasks: ScriptedTasks, caplog: pytest.LogCaptureFixture
) -> None:
    tasks.answer = lambda task: task_service_pb2.SubmitResult(
        task_id=str(uuid4()),
        outcome=task_service_pb2.SUBMIT_OUTCOME_DEDUPLICATED,
        payload_differs=True,
    )
    handle = add.with_config(debounce_key="k", delay=5).send(1)
    assert handle.arguments_differ
    assert [each for each in caplog.records if each.levelname == "WARNING"] == []


def test_token_travels_and_a_wrong_one_is_an_error_at_once(
    server: Server, tasks: ScriptedTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYREX_TOKEN", "secret")
    add.send(1)
    assert tasks.metadata[-1]["authorization"] == "Bearer secret"
    tasks.failures = [lambda context: refuse(context, grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")]
    with pytest.raises(TokenInvalid):
        add.send(1)


def test_send_async_and_send_many_async_await_on_their_own_loop(server: Server, tasks: ScriptedTasks) -> None:
    async def main() -> None:
        handles = await asyncio.gather(*(add.send_async(n) for n in range(50)))
        more = await send_many_async(add.call(n) for n in range(50))
        assert len({handle.id for handle in [*handles, *more]}) == 100

    asyncio.run(main())
    asyncio.run(main())
    assert len(tasks.submitted) == 200
    assert len(tasks.frames) < 60


def test_send_on_a_running_loop_works_and_warns_once_for_each_place(
    server: Server, tasks: ScriptedTasks
) -> None:
    async def main() -> list[str]:
        def thrice() -> None:
            for n in range(3):
                add.send(n)
            careful.send({})

        with pytest.warns(RuntimeWarning) as caught:
            thrice()
        return [f"{warning.filename}:{warning.message}" for warning in caught]

    warned = asyncio.run(main())
    assert len(tasks.submitted) == 4
    assert len(warned) == 2
    assert all(__file__ in text and "await send_async()" in text for text in warned)


def test_send_inside_a_task_names_its_parent_and_root(server: Server, tasks: ScriptedTasks) -> None:
    now, parent, root = datetime.now(UTC), uuid4(), uuid4()
    context = HyrexContext(parent, "outer", "q", 5, 0, 0, 0, None, root, None, now, now, "w")
    with bind_context(context):
        add.send(1)
        send_many([add.call(2)])
    add.send(3)
    inner, batched, outside = tasks.submitted
    assert (inner.parent_id, inner.root_id) == (str(parent), str(root))
    assert (batched.parent_id, batched.root_id) == (str(parent), str(root))
    assert (outside.parent_id, outside.root_id) == ("", "")


def test_each_task_of_a_frame_has_its_own_trace() -> None:
    traces = [b"", b"a" * 26, b"b" * 26, b""]
    sent = [
        Outgoing(f"{n:032x}", add._spec, b"{}", Origin(trace_context=one)) for n, one in enumerate(traces)
    ]
    body, order = submit_groups(sent)
    (group,) = task_service_pb2.StreamSubmitRequest.FromString(body).groups
    assert list(order) == [0, 1, 2, 3]
    assert group.trace_contexts == bytes(26) + b"a" * 26 + b"b" * 26 + bytes(26)


@pytest.mark.parametrize(
    "url",
    [
        "localhost:50051",
        "http://localhost",
        "grpc://",
        "grpc://host:0",
        "grpc://a:99999",
        "grpc://a,grpcs://b",
    ],
)
def test_url_that_is_none_is_refused_with_an_example(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYREX_BROKER_URL", url)
    with pytest.raises(ValueError, match="grpc://"):
        add.send(1)


@pytest.mark.parametrize("text", ["soon", "0", "-1", "inf"])
def test_send_timeout_must_be_seconds(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", text)
    with pytest.raises(ValueError, match="HYREX_SEND_TIMEOUT"):
        add.send(1)


@hy.task(headers={"origin": "shop"}, labels={"team": "a"})
def labelled() -> None:
    pass


@hy.remote(labels={"team": "b"})
def labelled_elsewhere() -> None:
    pass


def test_headers_and_labels_are_sent_and_checked(server: Server, tasks: ScriptedTasks) -> None:
    sender = add.with_config(headers={"traceparent": "00-1"}, labels={"tenant": "Ada"})
    sender.with_config(priority=1).send(1)
    (sent,) = tasks.submitted
    assert (dict(sent.headers), dict(sent.labels)) == ({"traceparent": "00-1"}, {"tenant": "Ada"})
    for send in (labelled, labelled.with_config(labels={}), labelled_elsewhere):
        send.send()
    assert [(dict(sent.headers), dict(sent.labels)) for sent in tasks.submitted[1:]] == [
        ({"origin": "shop"}, {"team": "a"}),
        ({"origin": "shop"}, {}),
        ({}, {"team": "b"}),
    ]
    with pytest.raises(TypeError, match="task total: labels must be a mapping of str to str, got 'x'"):
        HyrexRegistry().task(name="total", labels="x")(labelled.function)  # type: ignore[call-overload]
    for wrong in ("x", {"a": 1}, {1: "a"}):
        with pytest.raises(TypeError, match="labels must be a mapping of str to str"):
            add.with_config(labels=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at most 65536 bytes"):
        add.with_config(headers={"a": "x" * 65_536})
    with pytest.raises(ValueError, match="NUL"):
        add.with_config(headers={"a": "\0"})


@pytest.mark.parametrize(
    ("before", "outcome", "after"),
    [
        (task_pb2.TASK_STATUS_QUEUED, True, "cancelled"),
        (task_pb2.TASK_STATUS_COMPLETED, False, "completed"),
    ],
)
def test_handle_says_what_its_cancel_did(
    server: Server, tasks: ScriptedTasks, before: int, outcome: bool, after: str
) -> None:
    handle = add.send(1)
    tasks.put(task_pb2.Task(task_id=str(handle.id), name="add", status=before))  # type: ignore[arg-type]
    assert handle.cancel() is outcome
    assert handle.status == after


def test_wait_takes_seconds_or_a_timedelta(server: Server, tasks: ScriptedTasks) -> None:
    handle = add.send(1)
    tasks.put(task_pb2.Task(task_id=str(handle.id), name="add", status=task_pb2.TASK_STATUS_RUNNING))
    began = time.monotonic()
    assert not handle.wait(timeout=timedelta(milliseconds=50))
    assert not wait_all([handle], timeout=timedelta(milliseconds=50))
    with pytest.raises(TimeoutError):
        handle.result(timedelta(milliseconds=50))
    assert time.monotonic() - began >= 0.15
    for wrong in ("5", True, float("nan")):
        with pytest.raises((TypeError, ValueError), match="timeout must be seconds or a timedelta"):
            handle.wait(wrong)  # type: ignore[arg-type]
