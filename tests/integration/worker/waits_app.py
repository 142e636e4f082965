"""Tasks that send tasks and wait for them, in all the ways that user code does."""

import asyncio
import multiprocessing
import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool

from hyrex.app import HyrexApp
from hyrex.by_id import get_task
from hyrex.context import get_hyrex_context
from hyrex.errors import WouldDeadlock
from hyrex.handle import TaskHandle
from hyrex.registry import HyrexRegistry

hy = HyrexRegistry(queue="waits")
app = HyrexApp("waits")
shared_pool = ThreadPoolExecutor(2)


@hy.task
def one() -> int:
    """Return 1."""
    return 1


@hy.task
async def aone() -> int:
    """Return 1, on the loop."""
    return 1


@hy.task
def in_a_pool(count: int) -> int:
    """Wait in threads of a pool."""
    with ThreadPoolExecutor(count) as pool:
        return sum(pool.map(lambda _: one.send().result(), range(count)))


@hy.task
def in_a_foreign_pool() -> int:
    """Wait in a thread that knows no run."""
    with ThreadPool(1, initializer=_forget_run) as pool:
        return pool.apply(lambda: one.send().result())


def _forget_run() -> None:
    from hyrex.context import bind_context

    bind_context(None).__enter__()


@hy.task
def by_asyncio_run() -> int:
    """Await in a loop of its own."""
    return asyncio.run(_awaited())


async def _awaited() -> int:
    handles = [await one.send_async(), await one.send_async()]
    return sum(await asyncio.gather(*(handle.result_async() for handle in handles)))


@hy.task
def in_a_fork() -> str:
    """Wait in a fork, for what cannot begin before it ends; what the fork met."""
    queue: multiprocessing.SimpleQueue[str] = multiprocessing.get_context("fork").SimpleQueue()

    def wait() -> None:
        try:
            queue.put(str(one.send().result(timeout=0.5)))
        except TimeoutError:
            queue.put("TimeoutError")

    process = multiprocessing.get_context("fork").Process(target=wait)
    process.start()
    met = queue.get()
    process.join()
    return met


@hy.task
async def on_the_loop() -> str:
    """Block the loop with a wait for what needs it; what it met."""
    handle = await aone.send_async()
    try:
        return str(handle.result())
    except WouldDeadlock as error:
        return str(error)


@hy.task
async def beside_the_loop() -> int:
    """Wait in a thread of an async task."""
    return await asyncio.to_thread(lambda: aone.send().result())


@hy.task
def chain(length: int) -> int:
    """Wait for a task that waits for a task."""
    return 1 if length == 1 else 1 + chain.send(length - 1).result()


@hy.task
async def achain(length: int) -> int:
    """Await a task that awaits a task."""
    if length == 1:
        return 1
    handle = await achain.send_async(length - 1)
    return 1 + await handle.result_async()


@hy.task
def parents_of_sent() -> list[str | None]:
    """Send from threads of several kinds; the parents that the tasks know, and this task's id."""
    handles: list[TaskHandle[str | None]] = []
    thread = threading.Thread(target=lambda: handles.append(parent.send()))
    thread.start()
    thread.join()
    handles.append(shared_pool.submit(parent.send).result())
    with ThreadPoolExecutor(1) as pool:
        handles.append(pool.submit(lambda: pool.submit(parent.send)).result().result())
    handles.append(asyncio.run(_sent_by_executor()))
    context = get_hyrex_context()
    return [str(context and context.task_id), *(handle.result() for handle in handles)]


async def _sent_by_executor() -> TaskHandle[str | None]:
    return await asyncio.get_running_loop().run_in_executor(None, parent.send)


@hy.task
def parent() -> str | None:
    """The id of the task that sent this one."""
    context = get_hyrex_context()
    return str(context.parent_id) if context is not None and context.parent_id else None


@hy.task
def secrets() -> list[str]:
    """What of the token user code sees: in its environment, its process's, a subprocess's; then send."""
    seen = [f"{key}={value}" for key, value in os.environ.items()]
    with open("/proc/self/environ") as own:
        seen += own.read().split("\0")
    seen += subprocess.run(["env"], capture_output=True, text=True, check=True).stdout.splitlines()
    get_task(one.send().id)
    return [line for line in seen if line.startswith("HYREX_TOKEN")]


app.add_registry(hy)
