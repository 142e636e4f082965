"""A prefork server sends from its children, whether its parent has sent before or not."""

import os
import signal
import subprocess
import sys
import threading
import time

import grpc
import pytest

from hyrex import HyrexRegistry
from hyrex.backend.ids import new_task_id
from hyrex.transport import grpc_threads
from hyrex.v1 import task_pb2, task_service_pb2
from tests.support.scripted_tasks import ScriptedTasks, Server, refuse, stored

hy = HyrexRegistry()


@hy.task
def add(a: int) -> int:
    return a


SCRIPT = """
import os, sys, threading
from tests.integration.sdk.test_forks import add, children_that_send

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


WITH_TWO_CELLS = """
import os
from hyrex import send_many
from tests.integration.sdk.test_forks import add, exit_code

other = add.with_config(queue="other")

def both():
    send_many([add.call(1), other.call(2)])

both()
for _ in range(2):
    child = os.fork()
    if child == 0:
        try:
            both()
            os._exit(0)
        finally:
            os._exit(1)
    assert exit_code(child) == 0
both()
"""


AFTER_A_FAILURE = """
import gc, sys
from tests.integration.sdk.test_forks import add, children_that_send

gc.disable()  # what a failed frame leaves must go by itself, or gRPC's threads live on over the fork
add.send(0)
sys.exit(children_that_send(2))
"""


WHILE_A_WATCH_ENDS = """
import gc, sys
from hyrex.client import process
from hyrex.transport import grpc_threads
from tests.integration.sdk.test_forks import add

gc.disable()
add.send(0).wait(30)  # the broker has told the end, and its stream goes on
process._remote.pause()
grpc_threads.GrpcThreads().wait_for_end()
sys.exit(grpc_threads._any_left())
"""


ON_A_SLOW_MACHINE = """
import os, sys, threading
os.register_at_fork(before=lambda: found.append([thread.name for thread in threading.enumerate()]))
found = []
from hyrex.client import life, remote
from hyrex.errors import RuntimeUnsupported
from tests.integration.sdk.test_forks import add, exit_code

def slow(error, end=life._let_go):
    slowly.wait(float(sys.argv[1]))
    end(error)

slowly = threading.Event()
life._let_go = slow
remote.BEFORE_A_FORK_S = float(sys.argv[2])
add.send(0)
child = os.fork()
slowly.set()
if child == 0:
    try:
        add.send(1)
        os._exit(0)
    except RuntimeUnsupported:
        os._exit(7)
    finally:
        os._exit(1)
print(exit_code(child), "hyrex-client" in found[0])
add.send(2)
"""


DURING_A_CALL_OF_A_SIGNAL_HANDLER = """
import os, threading
os.register_at_fork(before=lambda: found.append(calling.is_alive()))
found = []
from hyrex.client import process
from tests.integration.sdk.test_forks import add, exit_code

handle = add.send(0)
begun = threading.Event()

def call():  # as a handler does that has interrupted its thread in the client
    with process._remote._inside, process._remote._direct._calling:
        begun.set()
        handle.refresh()

calling = threading.Thread(target=call)
calling.start()
begun.wait()
child = os.fork()
if child == 0:
    try:
        add.send(1)
        os._exit(0)
    finally:
        os._exit(1)
calling.join()
print(exit_code(child), found)
"""


A_DAEMON = """
import os, sys, time
from hyrex.client import close_client
from hyrex.transport import grpc_threads
from tests.integration.sdk.test_forks import add, exit_code

if sys.argv[1] != "before it sends":
    add.send(0)
if sys.argv[1] == "in its first process":
    close_client()
    while grpc_threads._any_left():  # they end a moment after their client
        time.sleep(0.01)
child = os.fork() if sys.argv[1] != "in its first process" else 0
if child == 0:
    os.closerange(3, 4096)
    os._exit(add.send(1).status != "queued")
sys.exit(exit_code(child))
"""


RIGHT_AFTER_THE_END = """
import os
os.register_at_fork(before=lambda: found.append(grpc_threads._any_left()))
found = []
from hyrex.client import close_client
from hyrex.transport import grpc_threads
from tests.integration.sdk.test_forks import add

for n in range(5):
    add.send(n)
    close_client()
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
print(any(found))
"""


READS_ON_A_LOOP = """
import asyncio, gc, os
os.register_at_fork(before=lambda: found.append(grpc_threads._any_left()))
found = []
from hyrex.transport import grpc_threads
from tests.integration.sdk.test_forks import add, exit_code

async def main():
    handle = await add.send_async(0)
    reading = asyncio.create_task(handle.refresh_async())
    await asyncio.sleep(0)  # the read is on its way
    grpc_threads.PATIENCE_S = 30
    gc.disable()  # what the reader keeps must not keep gRPC
    child = os.fork()
    if child == 0:
        os._exit(0)
    exit_code(child)
    assert found == [False]
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
    """How a forked child ended; if it does not, it is killed, and prints where if faulthandler is enabled."""
    ends = time.monotonic() + 100
    while time.monotonic() < ends:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        threading.Event().wait(0.01)
    os.kill(child, signal.SIGABRT)
    os.waitpid(child, 0)
    return -signal.SIGABRT


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
