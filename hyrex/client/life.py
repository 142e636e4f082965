"""The client's thread: an event loop with a connection, a frame sender and a watcher.

It can be ended and replaced by a new one at any time, and must be before a fork: tasks and watches without an
answer are kept outside of it, in the send queue and the watchlist.
"""

import asyncio
import threading
import traceback
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from hyrex.client.outbox import SendQueue
from hyrex.client.submitter import FrameSender
from hyrex.client.watcher import Watcher
from hyrex.client.watchlist import Watchlist
from hyrex.runtime import loops
from hyrex.runtime.callsite import CLIENT_THREAD
from hyrex.transport.calls import Calls
from hyrex.transport.channel import Address
from hyrex.transport.connection import BrokerConnection
from hyrex.transport.errors import CallFailed, CallFailure

__all__ = ["ClientLoop", "ClientThread"]

T = TypeVar("T")
CLOSE_WITHIN_S: Final = 2.0
PAUSE_S: Final = 0.1


loops.load()


class ClientThread(threading.Thread):
    """The thread of a ClientLoop. `owner` is the backend that it works for, which must not wait in it."""

    owner: object = None


class ClientLoop:
    """Runs from its construction until `end()`, which returns when thread and channel are gone."""

    def __init__(
        self,
        addresses: Sequence[Address],
        token: str | None,
        outbox: SendQueue,
        watchlist: Watchlist,
        owner: object,
    ) -> None:
        """`owner` is the backend by which its thread is recognised."""
        self._addresses = addresses
        self._token = token
        self._outbox = outbox
        self._watchlist = watchlist
        self._begun: Future[asyncio.AbstractEventLoop] = Future()
        self._connection: BrokerConnection | None = None
        self._submitter: FrameSender | None = None
        self._watcher: Watcher | None = None
        self._main: asyncio.Task[None] | None = None
        self._thread = ClientThread(target=self._run, name=CLIENT_THREAD, daemon=True)
        self._thread.owner = owner
        self._thread.start()
        self._loop = self._begun.result()

    @property
    def is_alive(self) -> bool:
        """True while its thread works."""
        return self._thread.is_alive()

    @property
    def last_failure(self) -> CallFailure | None:
        """Why the last submit must be repeated, or why no broker can be used; else None."""
        said = None if self._submitter is None else self._submitter.last_failure
        return said or (None if self._connection is None else self._connection.failure)

    @property
    def is_busy(self) -> bool:
        """True while a frame is in flight."""
        return self._submitter is not None and self._submitter.is_busy

    @property
    def is_refused(self) -> bool:
        """True if the last attempt to connect failed."""
        return self._connection is not None and self._connection.is_refused

    def wake(self) -> bool:
        """Have the thread look at send queue and watchlist. From any thread. Return False if it has ended."""
        try:
            self._loop.call_soon_threadsafe(self._pump)
        except RuntimeError:
            return False
        return True

    def call(self, make: Callable[[Calls], Coroutine[Any, Any, T]]) -> "Future[T]":
        """Make a unary call, and repeat it while that may help; cancel the future to give up."""
        calling = self._call(make)
        try:
            return asyncio.run_coroutine_threadsafe(calling, self._loop)
        except RuntimeError:
            calling.close()
            over: Future[T] = Future()
            over.cancel()
            return over

    def end(self, within_s: float = CLOSE_WITHIN_S) -> bool:
        """Close the channel and join the thread. Return True if it ended in this time."""
        if self.is_alive and self._main is not None:
            self._loop.call_soon_threadsafe(self._main.cancel)
            self._thread.join(within_s)
        if self.is_alive:
            return False  # it still works with what is let go below
        # gRPC's own thread ends with gRPC's last object: leave no reference cycle that keeps one.
        self._connection = self._submitter = self._watcher = self._main = None
        return True

    def _run(self) -> None:
        try:
            loops.run(self._live())
        except asyncio.CancelledError as error:
            _let_go(error)  # end() was called
        except BaseException as error:
            if self._begun.done():
                raise
            self._begun.set_exception(error)

    async def _live(self) -> None:
        self._main = asyncio.current_task()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_told_of_another_loop)
        connection = self._connection = BrokerConnection(self._addresses, self._token, self._pump)
        try:
            async with asyncio.TaskGroup() as group:
                self._submitter = FrameSender(self._outbox, connection, group)
                self._watcher = Watcher(self._watchlist, connection, group)
                group.create_task(connection.run())
                self._pump()
                self._begun.set_result(loop)
        finally:
            if self._submitter is not None:
                self._submitter.give_back()
            if self._watcher is not None:
                self._watcher.let_go()

    def _pump(self) -> None:
        if self._submitter is not None and self._watcher is not None:
            self._submitter.pump()
            self._watcher.pump()

    async def _call(self, make: Callable[[Calls], Coroutine[Any, Any, T]]) -> T:
        try:
            return await self._persist(make)
        except asyncio.CancelledError:
            pass
        # Another one: whoever waits for this keeps the error, and that of the call keeps the call. See end().
        raise asyncio.CancelledError

    async def _persist(self, make: Callable[[Calls], Coroutine[Any, Any, T]]) -> T:
        assert self._connection is not None
        while True:
            calls = await self._connection.ready()
            try:
                with self._connection.look_after(calls):
                    found = await make(calls)
            except CallFailed as error:
                if not error.failure.repeatable:
                    raise error.failure.exception() from None
                self._connection.leave(calls)
                pause_s = max(PAUSE_S, error.failure.retry_after_s or 0.0)
            else:
                self._connection.answered()
                return found
            await asyncio.sleep(pause_s)


def _told_of_another_loop(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say what went wrong on the loop, except that gRPC found another one closed.

    gRPC's loops share a queue, and whichever reads it passes on what is another's. The last words of calls
    that ended with a loop (another cell's, for instance) come when it is closed, and nobody waits for them.
    """
    closed = str(context.get("exception")) == "Event loop is closed"
    if not (closed and "PollerCompletionQueue" in str(context.get("message"))):
        loop.default_exception_handler(context)


def _let_go(error: BaseException | None) -> None:
    """Break a reference cycle: a TaskGroup's frame keeps the error that keeps the frame (Python 3.11).

    It would keep all calls of the loop, and gRPC's threads, until the garbage collector runs.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
