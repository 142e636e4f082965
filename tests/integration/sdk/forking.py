"""Programs that send and fork, run as processes by test_forks.py; what others of their kind share."""

import os
import signal
import threading
import time
from typing import Final

from hyrex import HyrexRegistry

hy = HyrexRegistry()
HANG_S: Final = 60


@hy.task
def add(a: int) -> int:
    return a


SCRIPT = """
import os, sys, threading
from tests.integration.sdk.forking import add, children_that_send

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
from tests.integration.sdk.forking import add, exit_code

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
from tests.integration.sdk.forking import add, children_that_send

gc.disable()  # what a failed frame leaves must go by itself, or gRPC's threads live on over the fork
add.send(0)
sys.exit(children_that_send(2))
"""


WHILE_A_WATCH_ENDS = """
import gc, sys
from hyrex.client import process
from hyrex.transport import grpc_threads
from tests.integration.sdk.forking import add

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
from tests.integration.sdk.forking import add, exit_code

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
from tests.integration.sdk.forking import add, exit_code

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
from tests.integration.sdk.forking import add, exit_code

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
from tests.integration.sdk.forking import add

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
from tests.integration.sdk.forking import add, exit_code

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
