"""The stream process: holds the stream and the session, never imports user code.

The composition root: it makes the parts, ties them together, and runs them in one TaskGroup.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Coroutine, Iterator
from typing import Any, Final, TypeVar

from hyrex.runtime import loops, state_report
from hyrex.runtime.metrics_server import MetricsUnavailable
from hyrex.worker.pool.child_process import ChildPlan, ChildProcess
from hyrex.worker.pool.first_child import AppUnusable, first_child
from hyrex.worker.pool.pool import Pool
from hyrex.worker.pool.pool_plan import PoolEvents, PoolPlan
from hyrex.worker.shared.child_messages import Imported
from hyrex.worker.shared.child_options import MOST_AWAITING, UNUSABLE
from hyrex.worker.shared.launcher_messages import BAD_OPTIONS, REFUSED, SessionOver, SessionTold
from hyrex.worker.shared.logs import configure_logging
from hyrex.worker.shared.memory import TrustCell, create_fd
from hyrex.worker.shared.options import WorkerOptions
from hyrex.worker.shared.platform import become_subreaper, wake_with_parent
from hyrex.worker.shared.remains import end_everything_below
from hyrex.worker.stream.background_log import BackgroundLog
from hyrex.worker.stream.capacity import Places
from hyrex.worker.stream.declared import registration_of
from hyrex.worker.stream.drain import WorkerDrain
from hyrex.worker.stream.enforcer import Enforcer
from hyrex.worker.stream.following import follow
from hyrex.worker.stream.launcher_link import LauncherLine
from hyrex.worker.stream.metrics import WorkerMetrics, served
from hyrex.worker.stream.outbox import StreamOutput
from hyrex.worker.stream.printed_state import pool_lines, session_lines
from hyrex.worker.stream.reconnect import BrokerRefuses, Reconnector
from hyrex.worker.stream.session import WorkerSession
from hyrex.worker.stream.stream import StreamParts
from hyrex.worker.stream.workload import Workload

NO_TASKS: Final = (
    "%s has no tasks, so this worker runs nothing: app.add_registry(hy) adds those of a registry"
)
log = logging.getLogger("hyrex.worker")

_GOODBYE_WITHIN_S: Final = 3.0
_ORPHAN_BEYOND_GRACE_S: Final = (
    15.0  # without a launcher, this process exits that long after the grace at the latest
)
_TICK_S: Final = 0.1
_LOG_WITHIN_S: Final = 1.0

T = TypeVar("T")


class Runtime:
    """One stream process, from its first child to its Goodbye."""

    def __init__(self, options: WorkerOptions, line: LauncherLine, launcher_pid: int) -> None:
        """Make the parts that do not depend on the user's app. Needs a running event loop."""
        self._options = options
        self._line = line
        self._launcher_pid = launcher_pid
        self._loop = asyncio.get_running_loop()
        trust_fd = create_fd(TrustCell.SIZE_BYTES)
        most_slots = max(options.threads, options.async_concurrency + MOST_AWAITING)
        self._child_plan = ChildPlan(
            options.target,
            options.name,
            trust_fd,
            most_slots,
            options.broker_url,
            options.token,
            options.log_format,
        )
        self._session = WorkerSession(TrustCell(trust_fd))
        self._outbox = StreamOutput(self._session)
        self._told = ""
        self._announced_ready = False
        self._drain: WorkerDrain | None = None
        self._ordered_early = asyncio.Event()  # told to end before there was anything to drain
        state_report.install(f"worker {options.name}", self._state)

    async def run(self) -> int:
        """Work until told to end; return the exit status."""
        orders = asyncio.create_task(self._follow_orders(), name="hyrex-orders")
        follow(self._launcher_pid, self._release_soon, self._options.grace_s + _ORPHAN_BEYOND_GRACE_S)
        try:
            return await self._run()
        except AppUnusable as error:
            sys.stderr.write(f"{error}\n")
            return UNUSABLE
        except MetricsUnavailable as error:
            log.error("%s", error)
            return BAD_OPTIONS
        finally:
            orders.cancel()

    def _state(self) -> Iterator[str]:
        yield from session_lines(self._session, self._outbox)
        if hasattr(self, "_workload"):  # else no child has imported the app yet
            yield from pool_lines(self._workload)

    async def _run(self) -> int:
        first = await self._unless_ordered(first_child(self._child_plan))
        if first is None:
            return 0  # told to end before the app was imported; the child ends with this process
        child, app = first
        self._workload = self._make_workload(app)
        self._make_pools(child, app)
        try:
            if await self._unless_ordered(self._usable()) is None:
                return 0
            return await self._serve(app)
        finally:
            await self._close_children()

    async def _unless_ordered(self, starting: Coroutine[Any, Any, T]) -> T | None:
        """Return the result of `starting`; None if the order to end comes first."""
        task = asyncio.create_task(starting, name="hyrex-starting")
        early = asyncio.create_task(self._ordered_early.wait(), name="hyrex-ordered-early")
        try:
            await asyncio.wait([task, early], return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            early.cancel()
            task.cancel()

    async def _usable(self) -> bool:
        """Wait until each kind of task has a child whose lifespan is entered. Raises: AppUnusable."""
        pools = self._workload.pools.values()
        while not all(pool.usable.done() for pool in pools):
            await asyncio.wait([pool.usable for pool in pools if not pool.usable.done()], timeout=_TICK_S)
            for pool in pools:
                pool.maintain()
        for pool in pools:
            pool.usable.result()
        return True

    async def _serve(self, app: Imported) -> int:
        self._drain = drain = WorkerDrain(
            self._workload, self._outbox, self._options.drain_timeout_s, self._options.grace_s
        )
        registration = registration_of(self._options, app)
        parts = StreamParts(registration, self._session, self._workload, self._outbox, drain.drain)
        self._connection = Reconnector(parts, self._options.broker_url, self._options.token, self._on_welcome)
        self._app = app
        connection = self._connection
        shown = WorkerMetrics(
            loop=self._loop,
            name=self._options.name,
            pools=self._workload.pools,
            runs=self._workload.counts,
            is_connected=lambda: connection.is_connected,
        )
        with served(shown, self._options.metrics):
            return await self._work(drain)

    async def _work(self, drain: WorkerDrain) -> int:
        status = 0
        enforcer = Enforcer(self._session, self._workload, self._options.grace_s, self._announce)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, drain.drain)
        try:
            async with asyncio.TaskGroup() as group:
                enforcing = group.create_task(enforcer.run(), name="hyrex-enforcer")
                connection = group.create_task(self._connection.run(), name="hyrex-connection")
                await self._drain_then_goodbye(drain, connection)
                enforcing.cancel()
                connection.cancel()
        except* BrokerRefuses as refusal:
            log.error("%s", refusal.exceptions[0])
            status = REFUSED
        return status

    async def _follow_orders(self) -> None:
        """Do what the launcher says. When it is gone, end at once: nobody else would end the session."""
        async for word in self._line.orders():
            self._end(now=word == "release")
        self._end(now=True)

    def _release_soon(self) -> None:
        """Called from a thread: the launcher is gone."""
        self._loop.call_soon_threadsafe(lambda: self._end(now=True))

    def _end(self, *, now: bool) -> None:
        if self._drain is None:
            self._ordered_early.set()
        elif now:
            self._drain.release()
        else:
            self._drain.drain()

    async def _drain_then_goodbye(self, drain: WorkerDrain, connection: asyncio.Task[None]) -> None:
        if await drain.run() and self._session.id:
            self._connection.finish()
            self._outbox.say_goodbye()
            done, _ = await asyncio.wait([connection], timeout=_GOODBYE_WITHIN_S)
            if done:
                self._line.tell(SessionOver())

    def _make_workload(self, app: Imported) -> Workload:
        pool_of = {task.name: "async" if task.is_async else "sync" for task in app.tasks}
        return Workload(self._session, self._outbox.reports, pool_of)

    def _make_pools(self, child: ChildProcess, app: Imported) -> None:
        options, workload = self._options, self._workload
        events = PoolEvents(workload.ended, workload.finished, self._announce, self._outbox.progress.add)
        kinds = {task.is_async for task in app.tasks} or {False}
        for asynchronous in sorted(kinds):
            plan = PoolPlan(
                name="async" if asynchronous else "sync",
                asynchronous=asynchronous,
                children=options.async_processes if asynchronous else options.processes,
                slots=options.async_concurrency if asynchronous else options.threads,
                prefetch=options.prefetch,
                max_tasks=options.max_tasks_per_child,
                max_memory_mb=options.max_memory_per_child_mb,
                handled=frozenset(task.name for task in app.tasks if task.handles_errors),
            )
            workload.pools[plan.name] = Pool(plan, self._child_plan, self._session.trust, events)
        pools = list(workload.pools.values())
        pools[0].adopt(child)
        for pool in pools:
            pool.maintain()
        self._announce()

    def _announce(self) -> bool:
        """Recompute the capacity. Return True if the broker has been told of every change that matters."""
        if not self._workload.drain_reason:
            pools = self._workload.pools
            places = {name: Places(pool.maximum(), pool.at_once()) for name, pool in pools.items()}
            pressing = any(pool.waiting.backlog and pool.is_stuck() for pool in pools.values())
            self._outbox.capacity.want(places, pressing=pressing)
        due = self._outbox.capacity.due()
        if due:
            self._outbox.wake()
        return not due

    def _on_welcome(self) -> None:
        if self._told != self._session.id:
            self._told = self._session.id
            self._line.tell(SessionTold(self._session.id, self._session.secret))
        if not self._announced_ready:
            self._announced_ready = True
            print(self._ready_line(), flush=True)
            if not self._app.tasks:
                log.warning(NO_TASKS, self._options.target)
        else:
            log.info("connected again")

    def _ready_line(self) -> str:
        slots = sum(pool.slots() for pool in self._workload.pools.values())
        tasks, queues = len(self._app.tasks), ",".join(self._options.queues)
        plural = "" if tasks == 1 else "s"
        return f"worker ready: {self._options.name}, {tasks} task{plural}, queues {queues}, slots {slots}"

    async def _close_children(self) -> None:
        children = [child for pool in self._workload.pools.values() for child in pool.children]
        for pool in self._workload.pools.values():
            pool.closing = True
        for child in children:
            child.retire()
        deadline = asyncio.get_running_loop().time() + self._options.grace_s
        while any(child.process.poll() is None for child in children):
            if asyncio.get_running_loop().time() > deadline:
                for child in children:
                    child.kill()
            await asyncio.sleep(0.01)
        end_everything_below()


async def _run(options: WorkerOptions, line: LauncherLine, launcher_pid: int) -> int:
    return await Runtime(options, line, launcher_pid).run()


def main() -> None:
    """Run as the stream process: `python -m hyrex.worker.stream.process OPTIONS LINE_FD LAUNCHER_PID`."""
    options = WorkerOptions.from_json(sys.argv[1]).resolved()
    line, launcher_pid = LauncherLine(int(sys.argv[2])), int(sys.argv[3])
    wake_with_parent()
    become_subreaper()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    configure_logging(json_of=options.json_of)
    written = BackgroundLog()
    try:
        status = loops.run(_run(options, line, launcher_pid))
    finally:
        stuck = not written.finish(_LOG_WITHIN_S)
    if stuck:
        os._exit(status)  # Python would wait for the thread's lock on stderr
    sys.exit(status)


if __name__ == "__main__":
    main()
