"""Sends on a real channel: merged without timers, repeated under the same id, never silently lost."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid4

import grpc
import pytest

from hyrex import (
    BrokerUnavailable,
    HyrexRegistry,
    PayloadTooLarge,
    SendRejected,
    SubmitUnknown,
    send_many,
    send_many_async,
)
from hyrex.client import close_client
from hyrex.context import HyrexContext, bind_context
from hyrex.errors import SendManyFailed, TokenInvalid
from hyrex.ids import task_ids
from hyrex.v1 import task_service_pb2
from hyrex.v1.task_pb2 import NewTask
from tests.unit.sdk.scripted_tasks import ScriptedTasks, Server, refuse, rejected

hy = HyrexRegistry(queue="work", max_retries=2)


@hy.task
def add(a: int, b: int = 1) -> int:
    return a + b


@hy.task(timeout_seconds=1.5, priority=9, retry_backoff=30)
def careful(data: dict[str, int]) -> None: ...


def unavailable(context: grpc.ServicerContext) -> None:
    refuse(context, grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")


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
        ({"run_at": datetime(2030, 1, 1)}, "run_at must be aware"),
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


def test_what_arrives_while_a_frame_is_in_flight_forms_the_next_one(
    server: Server, tasks: ScriptedTasks
) -> None:
    add.send(0)
    tasks.arrived.acquire(timeout=30)
    tasks.gate.clear()
    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(add.send, 1)
        assert tasks.arrived.acquire(timeout=30)
        rest = [pool.submit(add.send, n) for n in range(2, 20)]
        while _unanswered() < 19:
            time.sleep(0.001)
        tasks.gate.set()
        handles = [future.result(30) for future in [first, *rest]]
    sizes = [len(frame) for frame in tasks.frames[1:]]
    assert sum(sizes) == 19
    assert len(sizes) <= 3  # the overdue look may have sent some of them earlier
    assert {str(handle.id) for handle in handles} <= {task.task_id for task in tasks.submitted}


def _is_refused() -> bool:
    from hyrex.client import process

    assert process._remote is not None
    assert process._remote._life is not None
    return process._remote._life.is_refused


def _unanswered() -> int:
    """How many tasks this process has asked to store and not heard of."""
    from hyrex.client import process

    assert process._remote is not None
    life = process._remote._life
    assert life is not None
    assert life._submitter is not None
    return process._remote._outbox._count + sum(frame.count for frame in list(life._submitter._in_flight))


def test_frame_that_hangs_does_not_hold_up_later_sends(server: Server, tasks: ScriptedTasks) -> None:
    tasks.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        stuck = pool.submit(add.send, 1)
        assert tasks.arrived.acquire(timeout=30)
        later = threading.Thread(target=add.send, args=(2,))
        later.start()
        assert tasks.arrived.acquire(timeout=30)  # a second frame, while the first is unanswered
        tasks.gate.set()
        later.join()
        stuck.result(30)


def test_large_sends_are_split_by_count_and_by_bytes(server: Server, tasks: ScriptedTasks) -> None:
    @HyrexRegistry().task
    def text(value: str) -> None: ...

    handles = send_many(add.call(n) for n in range(2_500))
    assert sorted(len(frame) for frame in tasks.frames) == [500, 1000, 1000]
    assert sorted(task.task_id for task in tasks.submitted) == [str(handle.id) for handle in handles]
    tasks.frames.clear()
    send_many(text.call("x" * size) for size in (600_000, 600_000, 2_000_000, 10, 10))
    assert sorted(len(frame) for frame in tasks.frames) == [1, 1, 1, 2]


def test_single_send_is_not_starved_by_a_large_batch(server: Server, tasks: ScriptedTasks) -> None:
    tasks.gate.clear()
    calls = [add.call(n) for n in range(20_000)]
    with ThreadPoolExecutor(2) as pool:
        batch = pool.submit(send_many, calls)
        for _ in range(4):
            assert tasks.arrived.acquire(timeout=30)
        single = pool.submit(careful.send, {})
        while _unanswered() <= 20_000:
            time.sleep(0.001)
        tasks.gate.set()
        single.result(30)
        assert len(batch.result(30)) == 20_000
    position = [task.name for task in tasks.submitted].index("careful")
    assert position < 10_000


def test_no_tasks_are_no_frame(server: Server, tasks: ScriptedTasks) -> None:
    assert send_many([]) == []
    with pytest.raises(TypeError, match=r"made by task\.call"):
        send_many([3])  # type: ignore[arg-type]
    assert not tasks.frames


def test_unavailable_storage_is_tried_again_under_the_same_id(server: Server, tasks: ScriptedTasks) -> None:
    tasks.failures = [unavailable, unavailable]
    handle = add.send(1)
    assert [task.task_id for task in tasks.submitted] == [str(handle.id)] * 3


def test_failure_with_details_that_no_broker_wrote_is_like_one_without(
    server: Server, tasks: ScriptedTasks
) -> None:
    def garbled(context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\xff"),))
        context.abort(grpc.StatusCode.UNAVAILABLE, "from a proxy")

    tasks.failures = [garbled]
    handle = add.send(1)
    assert [task.task_id for task in tasks.submitted] == [str(handle.id)] * 2


def test_broker_that_restarts_within_the_deadline_costs_no_error(
    server: Server, tasks: ScriptedTasks
) -> None:
    add.send(1)
    server.stop()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(add.send, 2)
        while not _is_refused():
            time.sleep(0.001)
        server.start()
        assert future.result(30).status == "queued"


def test_broker_that_is_not_there_is_named_within_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"grpc://127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv("HYREX_BROKER_URL", url)
        monkeypatch.setenv("HYREX_SEND_TIMEOUT", "0.5")
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable) as caught:
            add.send(1)
        assert 0.4 < time.monotonic() - began < 3
        text = f"no answer from {url} within 0.5 s. Start one with `hyrex dev`, or set HYREX_BROKER_URL."
        assert str(caught.value) == text
        with pytest.raises(BrokerUnavailable):
            send_many(add.call(n) for n in range(3))
        with pytest.raises(BrokerUnavailable):
            add.handle(uuid4()).refresh()
        with pytest.raises(BrokerUnavailable):
            add.handle(uuid4()).wait(0.3)
        with pytest.raises(BrokerUnavailable):
            add.handle(uuid4()).result()
    close_client()


def test_task_without_a_broker_may_be_resent_when_there_is_one(
    tasks: ScriptedTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("HYREX_BROKER_URL", f"grpc://127.0.0.1:{port}")
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", "0.5")
    with pytest.raises(BrokerUnavailable) as caught:
        add.send(1)
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", "10")
    server = Server(tasks, port)
    handle = caught.value.handle
    assert handle is not None
    handle.resend()
    assert [task.task_id for task in tasks.submitted] == [str(handle.id)]
    close_client()
    server.stop()


def test_sends_whose_callers_are_gone_are_not_kept_until_a_broker_comes(
    tasks: ScriptedTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("HYREX_BROKER_URL", f"grpc://127.0.0.1:{port}")
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", "1")
    with ThreadPoolExecutor(20) as pool:
        for future in [pool.submit(send_many, [add.call(n) for n in range(100)]) for _ in range(20)]:
            with pytest.raises(BrokerUnavailable):
                future.result()
    assert _unanswered() == 0
    while not _is_refused():
        time.sleep(0.001)
    server = Server(tasks, port)
    while _is_refused():
        time.sleep(0.001)
    # The connection came about with nothing to take: the next send wakes the client's thread again.
    assert add.send(1).status == "queued"
    assert len(tasks.submitted) == 1
    close_client()
    server.stop()


def test_send_without_an_answer_is_unknown_and_resend_settles_it(
    server: Server, tasks: ScriptedTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", "0.3")
    tasks.gate.clear()
    with pytest.raises(SubmitUnknown, match="it may be stored or not") as caught:
        add.send(1)
    tasks.gate.set()
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", "30")
    caught.value.handle.resend()
    assert caught.value.handle.status == "queued"
    assert {task.task_id for task in tasks.submitted} == {str(caught.value.handle.id)}
    assert len({task.SerializeToString() for task in tasks.submitted}) == 1


def test_one_callers_patience_cuts_nobody_elses_frame(
    server: Server, tasks: ScriptedTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    add.send(0)
    assert tasks.arrived.acquire(timeout=30)
    tasks.gate.clear()
    loop_done = threading.Event()

    async def impatient() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await add.send_async(1)
        loop_done.set()

    with ThreadPoolExecutor(2) as pool:
        both = pool.submit(asyncio.run, impatient())
        assert tasks.arrived.acquire(timeout=30)
        patient = pool.submit(add.send, 2)
        assert loop_done.wait(30)
        tasks.gate.set()
        patient.result(30)
        both.result(30)


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


def test_id_outside_the_brokers_window_corrects_the_clock_for_new_ids_only(
    server: Server, tasks: ScriptedTasks
) -> None:
    server_ms = time.time_ns() // 1_000_000 - 7_200_000
    tasks.answer = rejected("TASK_ID_OUT_OF_WINDOW", server_time_ms=str(server_ms))
    try:
        with pytest.raises(SendRejected, match="send it again") as caught:
            add.send(1)
        assert caught.value.reason == "TASK_ID_OUT_OF_WINDOW"
        later = add.handle(task_ids.new())
        assert abs((later.id.int >> 80) - server_ms) < 60_000
        assert len({task.task_id for task in tasks.submitted}) == 1
    finally:
        task_ids.begin_anew()


def test_idempotency_key_that_hits_gives_the_first_tasks_id(server: Server, tasks: ScriptedTasks) -> None:
    first = uuid4()
    tasks.answer = lambda task: task_service_pb2.SubmitResult(
        task_id=str(first), outcome=task_service_pb2.SUBMIT_OUTCOME_DEDUPLICATED
    )
    handle = add.with_config(idempotency_key="k").send(1)
    assert handle.deduplicated
    assert handle.id == first
    handle.resend()
    assert handle.deduplicated


def test_token_travels_and_a_wrong_one_is_an_error_at_once(
    server: Server, tasks: ScriptedTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYREX_TOKEN", "secret")
    add.send(1)
    assert tasks.metadata[-1]["authorization"] == "Bearer secret"
    tasks.failures = [lambda context: refuse(context, grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")]
    with pytest.raises(TokenInvalid):
        add.send(1)


def test_address_without_hyrex_is_an_error_not_a_hang(server: Server, tasks: ScriptedTasks) -> None:
    tasks.failures = [lambda context: refuse(context, grpc.StatusCode.UNIMPLEMENTED)]
    with pytest.raises(Exception, match="scripted"):
        add.send(1)


def test_next_address_is_tried_when_the_first_does_not_answer(
    server: Server, tasks: ScriptedTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HYREX_BROKER_URL", f"grpc://127.0.0.1:{unused.getsockname()[1]},{server.url}")
        assert add.send(1).status == "queued"


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


def test_threads_and_loops_share_one_connection(server: Server, tasks: ScriptedTasks) -> None:
    def work(n: int) -> None:
        for m in range(20):
            add.send(n, m)

    before = threading.active_count()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert len(tasks.submitted) == 320
    assert len({task.task_id for task in tasks.submitted}) == 320
    assert sum(thread.name == "hyrex-client" for thread in threading.enumerate()) == 1
    assert threading.active_count() <= before + 70  # the scripted server's own pool


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


def test_interrupted_send_leaves_nothing_waiting(
    server: Server, tasks: ScriptedTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hyrex.client.waiters import ThreadWaiter

    wait: Callable[..., bool] = ThreadWaiter.wait

    def interrupted(self: ThreadWaiter, timeout_s: float | None) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(ThreadWaiter, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        add.send(1)
    monkeypatch.setattr(ThreadWaiter, "wait", wait)
    assert add.send(2).status == "queued"


def test_defect_of_the_broker_leaves_the_send_unknown_and_says_so(
    server: Server, tasks: ScriptedTasks
) -> None:
    tasks.failures = [lambda context: refuse(context, grpc.StatusCode.INTERNAL, "INTERNAL", incident="7")]
    with pytest.raises(SubmitUnknown, match=r"\(INTERNAL: scripted\)") as caught:
        add.send(1)
    caught.value.handle.resend()
    assert len({task.task_id for task in tasks.submitted}) == 1
