"""A prefork server sends from its children, whether its parent has sent before or not."""

import os
import subprocess
import sys
import threading
import time

import grpc
import pytest

from hyrex.backend.ids import new_task_id
from hyrex.transport import grpc_threads
from hyrex.v1 import task_pb2, task_service_pb2
from tests.integration.sdk.forking import (
    A_DAEMON,
    AFTER_A_FAILURE,
    DURING_A_CALL_OF_A_SIGNAL_HANDLER,
    ON_A_SLOW_MACHINE,
    READS_ON_A_LOOP,
    RIGHT_AFTER_THE_END,
    SCRIPT,
    WHILE_A_WATCH_ENDS,
    WITH_TWO_CELLS,
)
from tests.support.scripted_tasks import ScriptedTasks, Server, refuse, stored


@pytest.mark.parametrize("when", ["before", "never"])
def test_children_of_a_prefork_server_send(server: Server, tasks: ScriptedTasks, when: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, when],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    payloads = [task.payload for task in tasks.submitted]
    assert payloads.count(b'{"a":7}') >= 4
    by_id = {task.task_id: task.payload for task in tasks.submitted}
    assert list(by_id.values()).count(b'{"a":7}') == 4
    assert list(by_id.values()).count(b'{"a":2}') == 1


def test_parent_and_children_send_to_every_cell(
    server: Server, tasks: ScriptedTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = ScriptedTasks()
    second = Server(others)
    monkeypatch.setenv("HYREX_CELLS", f"other={second.url};*={server.url}")
    try:
        run(WITH_TWO_CELLS)
    finally:
        second.stop()
    assert [len({task.task_id for task in each.submitted}) for each in (tasks, others)] == [4, 4]


def test_read_on_a_loop_outlives_a_fork(server: Server, tasks: ScriptedTasks) -> None:
    forked = threading.Event()

    def hold(_: object) -> None:
        forked.wait(30)

    def answer(task: task_pb2.NewTask) -> task_service_pb2.SubmitResult:
        if task.payload == b'{"a":1}':
            forked.set()
        else:
            tasks.put(task_pb2.Task(task_id=task.task_id, status=task_pb2.TASK_STATUS_RUNNING))
            tasks.failures = [hold]
        return stored(task)

    tasks.answer = answer
    done = subprocess.run(
        [sys.executable, "-c", READS_ON_A_LOOP], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr


def test_children_send_though_a_frame_of_their_parent_had_failed(
    server: Server, tasks: ScriptedTasks
) -> None:
    tasks.failures = [lambda context: refuse(context, grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")]
    command = [sys.executable, "-c", AFTER_A_FAILURE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert len({task.task_id for task in tasks.submitted}) == 3


def test_a_watch_that_a_fork_ends_leaves_no_thread_of_grpc(server: Server, tasks: ScriptedTasks) -> None:
    def answer(task: task_pb2.NewTask) -> task_service_pb2.SubmitResult:
        tasks.put(task_pb2.Task(task_id=task.task_id, status=task_pb2.TASK_STATUS_COMPLETED))
        return stored(task)

    tasks.answer = answer
    tasks.lingers.set()
    command = [sys.executable, "-c", WHILE_A_WATCH_ENDS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    tasks.lingers.clear()
    assert done.returncode == 0, done.stderr


def run(script: str, *arguments: str) -> str:
    """What the script printed; it must end well."""
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_fork_waits_for_a_client_that_takes_long_to_stop(server: Server) -> None:
    assert run(ON_A_SLOW_MACHINE, "2.5", "30") == "0 False\n"


def test_a_child_that_was_forked_from_a_client_that_did_not_stop_says_so(server: Server) -> None:
    assert run(ON_A_SLOW_MACHINE, "60", "0.1") == "7 True\n"


def test_a_fork_waits_for_a_call_that_a_signal_handler_makes(server: Server, tasks: ScriptedTasks) -> None:
    def answer(task: task_pb2.NewTask) -> task_service_pb2.SubmitResult:
        tasks.put(task_pb2.Task(task_id=task.task_id, status=task_pb2.TASK_STATUS_RUNNING))
        return stored(task)

    tasks.answer = answer
    tasks.failures = [lambda _: None, lambda _: time.sleep(0.5)]  # it is slow to answer the call
    assert run(DURING_A_CALL_OF_A_SIGNAL_HANDLER) == "0 [False]\n"


@pytest.mark.parametrize("when", ["before it sends", "after a send", "in its first process"])
def test_a_daemon_that_closes_every_descriptor_sends(server: Server, tasks: ScriptedTasks, when: str) -> None:
    run(A_DAEMON, when)
    assert b'{"a":1}' in [task.payload for task in tasks.submitted]


def test_a_fork_right_after_a_client_was_closed_finds_no_thread_of_grpc(server: Server) -> None:
    assert run(RIGHT_AFTER_THE_END) == "False\n"


def waited_s(threads: grpc_threads.GrpcThreads) -> float:
    """How long a fork has waited for the threads."""
    began = time.monotonic()
    threads.wait_for_end()
    return time.monotonic() - began


def test_a_fork_waits_for_threads_of_grpc_and_where_others_use_it_but_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, others = grpc_threads.GrpcThreads(), grpc_threads.GrpcThreads()
    monkeypatch.setattr(grpc_threads, "NAMES", ("",))
    monkeypatch.setattr(grpc_threads, "PATIENCE_S", 0.6)
    assert waited_s(ours) >= 0.6
    monkeypatch.setattr(grpc_threads, "PATIENCE_S", 1000)
    others.look()
    assert waited_s(ours) < 100
    assert waited_s(others) < 100
    monkeypatch.setattr(grpc_threads, "NAMES", ("no such thread",))
    ours.begin_anew()
    assert waited_s(ours) < 100


def test_forked_child_makes_ids_of_its_own() -> None:
    new_task_id()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, "".join(new_task_id() for _ in range(10)).encode())
        os._exit(0)
    here = {new_task_id() for _ in range(10)}
    os.waitpid(child, 0)
    text = os.read(read, 10_000).decode()
    os.close(read)
    os.close(write)
    there = {text[at : at + 36] for at in range(0, 360, 36)}
    assert len(there) == 10
    assert not here & there
