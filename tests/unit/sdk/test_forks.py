"""A prefork server sends from its children, whether its parent has sent before or not."""

import os
import subprocess
import sys
import threading
import time

import grpc
import pytest

from hyrex import HyrexRegistry
from hyrex.transport import grpc_threads
from hyrex.v1 import task_pb2, task_service_pb2
from tests.unit.sdk.scripted_tasks import ScriptedTasks, Server, refuse, stored

hy = HyrexRegistry()


@hy.task
def add(a: int) -> int:
    return a


SCRIPT = """
import os, sys, threading
from tests.unit.sdk.test_forks import add, children_that_send

sends_before = sys.argv[1] == "before"
stop, threads = threading.Event(), []
if sends_before:
    add.send(0)
    sends = lambda: [add.send(1) for _ in iter(stop.is_set, True)]
    threads = [threading.Thread(target=sends) for _ in range(2)]
    for thread in threads:
        thread.start()
failed = children_that_send(4)
stop.set()
for thread in threads:
    thread.join()
add.send(2)
sys.exit(failed)
"""


AFTER_A_FAILURE = """
import gc, sys
from tests.unit.sdk.test_forks import add, children_that_send

gc.disable()  # what a failed frame leaves must go by itself, or gRPC's threads live on over the fork
add.send(0)
sys.exit(children_that_send(2))
"""


WHILE_A_WATCH_ENDS = """
import gc, sys
from hyrex.client import process
from hyrex.transport import grpc_threads
from tests.unit.sdk.test_forks import add

gc.disable()
add.send(0).wait(30)  # the broker has told the end, and its stream goes on
process._remote.pause()
grpc_threads.LONGEST_S = 30
grpc_threads.wait_for_grpc_to_end()
sys.exit(grpc_threads._any_left())
"""


READS_ON_A_LOOP = """
import asyncio, os
from tests.unit.sdk.test_forks import add, exit_code

async def main():
    handle = await add.send_async(0)
    reading = asyncio.create_task(handle.refresh_async())
    await asyncio.sleep(0)  # the read is on its way
    child = os.fork()
    if child == 0:
        os._exit(0)
    exit_code(child)
    await add.send_async(1)  # reads are answered from here on
    await reading
    assert handle.status == "running", handle.status

asyncio.run(main())
"""


def children_that_send(count: int) -> int:
    """Fork children that send one task each; how many of them failed."""
    failed = 0
    for _ in range(count):
        child = os.fork()
        if child == 0:
            try:
                add.send(7)
                os._exit(0)
            finally:
                os._exit(1)
        failed += exit_code(child) != 0
    return failed


def exit_code(child: int) -> int:
    """How a forked child ended; it is killed if it does not."""
    ends = time.monotonic() + 20
    while time.monotonic() < ends:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        threading.Event().wait(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return -9


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


def test_a_fork_waits_for_threads_of_grpc_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    for names, least_s, most_s in ((("no such thread",), 0.0, 0.2), (("",), 0.25, 20.0)):
        monkeypatch.setattr(grpc_threads, "NAMES", names)
        began = time.monotonic()
        grpc_threads.wait_for_grpc_to_end()
        assert least_s <= time.monotonic() - began < most_s
