"""A prefork server sends from its children, whether its parent has sent before or not."""

import os
import subprocess
import sys
import threading
import time

import pytest

from hyrex import HyrexRegistry
from tests.unit.sdk.scripted_tasks import ScriptedTasks, Server

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
        failed += _exit_code(child) != 0
    return failed


def _exit_code(child: int) -> int:
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
