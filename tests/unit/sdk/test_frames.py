"""Frames on a real channel: merged without timers, split where they must be, independent of each caller."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from hyrex import HyrexRegistry, SendManyFailed, send_many
from hyrex.transport import submit_stream
from tests.support.scripted_tasks import ScriptedTasks, Server, refuse
from tests.unit.sdk.sent_tasks import add, careful, unanswered


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
        while unanswered() < 19:
            time.sleep(0.001)
        tasks.gate.set()
        handles = [future.result(30) for future in [first, *rest]]
    sizes = [len(frame) for frame in tasks.frames[1:]]
    assert sum(sizes) == 19
    assert len(sizes) <= 3  # the overdue look may have sent some of them earlier
    assert {str(handle.id) for handle in handles} <= {task.task_id for task in tasks.submitted}


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
        while unanswered() <= 20_000:
            time.sleep(0.001)
        tasks.gate.set()
        single.result(30)
        assert len(batch.result(30)) == 20_000
    position = [task.name for task in tasks.submitted].index("careful")
    assert position < 10_000


def test_no_tasks_are_no_frame(server: Server, tasks: ScriptedTasks) -> None:
    assert list(send_many([])) == []
    with pytest.raises(TypeError, match=r"made by task\.call"):
        send_many([3])  # type: ignore[arg-type]
    assert not tasks.frames


def test_one_callers_patience_cuts_nobody_elses_frame(
    server: Server, tasks: ScriptedTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    add.send(0)
    assert tasks.arrived.acquire(timeout=30)
    tasks.gate.clear()
    is_sent, loop_done = threading.Event(), threading.Event()

    async def impatient() -> None:
        sending = asyncio.ensure_future(add.send_async(1))
        await asyncio.to_thread(is_sent.wait, 60)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        loop_done.set()

    with ThreadPoolExecutor(2) as pool:
        both = pool.submit(asyncio.run, impatient())
        assert tasks.arrived.acquire(timeout=30)
        patient = pool.submit(add.send, 2)
        is_sent.set()
        assert loop_done.wait(60)
        tasks.gate.set()
        patient.result(30)
        both.result(30)


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


def two_frames_under_way(pool: ThreadPoolExecutor, tasks: ScriptedTasks) -> "list[Future[Any]]":
    tasks.gate.clear()
    sends = [pool.submit(send_many, [add.call(n) for n in range(1_000)]) for _ in range(2)]
    for _ in sends:
        assert tasks.arrived.acquire(timeout=30)
    return sends


def test_a_refused_frame_is_not_the_end_of_those_beside_it(server: Server, tasks: ScriptedTasks) -> None:
    with ThreadPoolExecutor(2) as pool:
        sends = two_frames_under_way(pool, tasks)
        tasks.failures = [lambda context: refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")]
        tasks.gate.set()
        assert [len(send.result(30)) for send in sends] == [1_000, 1_000]


def test_each_frame_that_is_refused_by_itself_says_so(server: Server, tasks: ScriptedTasks) -> None:
    with ThreadPoolExecutor(2) as pool:
        sends = two_frames_under_way(pool, tasks)
        tasks.failures = 4 * [  # two of them on the one stream that the first ends
            lambda context: refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
        ]
        tasks.gate.set()
        for send in sends:
            with pytest.raises(SendManyFailed):
                send.result(30)


def test_a_frame_without_an_answer_goes_again_on_another_stream(
    server: Server, tasks: ScriptedTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit_stream, "FRAME_DEADLINE_S", 0.2)
    tasks.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(add.send, 1)
        for _ in range(2):
            assert tasks.arrived.acquire(timeout=30)
        tasks.gate.set()
        handle = sent.result(30)
    assert {task.task_id for task in tasks.submitted} == {str(handle.id)}


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
