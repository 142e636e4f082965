"""The backend for a broker: callers block or await here while the client's thread works."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Final, TypeVar

from hyrex.address import HOW_TO_REACH_ONE, trusted_url
from hyrex.backend.outgoing import Outgoing, SendResult
from hyrex.backend.outgoing_workflow import OutgoingWorkflow
from hyrex.backend.protocol import OutsideAnswer, Replay, Watched
from hyrex.backend.workflow_state import WorkflowSnapshot
from hyrex.client.direct import DirectBackend
from hyrex.client.inside import Inside
from hyrex.client.life import ClientLoop
from hyrex.client.outbox import Parcel, SendQueue
from hyrex.client.postponed import persist, persist_async
from hyrex.client.unary import Ask, UnaryCalls
from hyrex.client.waiters import LoopWaiter, ThreadWaiter
from hyrex.client.watchlist import Subscription, Watchlist
from hyrex.client.workflows import WorkflowSends
from hyrex.config import Settings
from hyrex.errors import BrokerUnavailable, refuse_at_the_end
from hyrex.runs import TaskSnapshot
from hyrex.status import TaskStatus
from hyrex.transport.convert import sizes_in_frame

__all__ = ["RemoteBackend"]

T = TypeVar("T")
BEFORE_A_FORK_S: Final = 30.0


class RemoteBackend:
    """Calls of one process to its broker. Threads and event loops may share it; the child of a fork may not.

    A signal handler or a finalizer may send at any moment: in the client's thread, which then cannot answer,
    or while its thread holds one of the locks here. Such a call is made by DirectBackend.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._addresses = trusted_url(settings.broker_url, settings.token)
        self._outbox = SendQueue()
        self._watchlist = Watchlist()
        self._lock = threading.RLock()
        self._life: ClientLoop | None = None
        self._inside = Inside()
        self._direct = DirectBackend(settings)
        self._calls = UnaryCalls(self)
        self._workflows = WorkflowSends(self._calls, settings.send_timeout_s)
        self._is_paused = False
        # Made after the main thread ended: nobody will close it later.
        self._is_brief = not threading.main_thread().is_alive()

    @property
    def silence(self) -> str:
        """The beginning of an error text for a call without an answer."""
        failure = self._life.last_failure if self._life is not None else None
        url, seconds = self.settings.broker_url, self.settings.send_timeout_s
        if failure is not None and failure.reason:
            return f"{url} answered {failure.reason}: {failure.message}"
        said = "" if failure is None else f" ({failure})"
        return f"no answer from {url} within {seconds:g} s{said}"

    @property
    def is_silent(self) -> bool:
        """True if there was no answer, and no broker said why."""
        failure = self._life.last_failure if self._life is not None else None
        return failure is None or not failure.reason

    def _living(self) -> ClientLoop:
        refuse_at_the_end()
        life = self._life
        if life is None or not life.is_alive:
            with self._lock:
                life = self._life
                if life is None or not life.is_alive:
                    life = self._life = ClientLoop(
                        self._addresses, self.settings.token, self._outbox, self._watchlist, self
                    )
        return life

    @property
    def _is_interrupted(self) -> bool:
        """True if this thread was interrupted in this class, or is the client's (see the class)."""
        thread = threading.current_thread()
        return thread.ident in self._inside.threads or getattr(thread, "owner", None) is self

    def pause(self) -> bool:
        """Let thread and channel go, so that the process may fork; what is unanswered stays.

        False if something keeps the thread for longer than a fork can wait: gRPC is in use then.
        """
        self._lock.acquire()
        life, self._life = self._life, None
        ended = life is None or life.end(BEFORE_A_FORK_S)
        self._is_paused = self._direct.pause(BEFORE_A_FORK_S)
        return ended and self._is_paused

    def resume(self) -> None:
        """Go on after pause(), if anything waits for an answer."""
        self.forget()
        if not self._outbox.is_empty or self._watchlist.has_subscribers:
            self._living()

    def forget(self) -> None:
        """After pause(), in the child: who was interrupted in here goes on with a life of the child's."""
        if self._is_paused:
            self._direct.resume()
        self._lock.release()

    def retire(self) -> bool:
        """Close it unless somebody still waits for an answer. Return True if it is closed."""
        life = self._life
        if (life and life.is_busy) or not self._outbox.is_empty or self._watchlist.has_subscribers:
            return False
        self.close()
        return True

    def close(self) -> None:
        """End thread and channel; waits for tasks end with an error, since nothing would end them later."""
        with self._inside, self._lock:
            if self._life is not None:
                self._life.end()
                self._life = None
        self._watchlist.fail_all(BrokerUnavailable("the client was closed"))

    # Storing

    def _post(self, parcel: Parcel) -> None:
        if self._outbox.add(parcel):
            self._wake()
        else:
            self._living()

    def _wake(self) -> None:
        while not self._living().wake():
            time.sleep(0.001)  # its thread is ending for a fork

    def _patience(self, parcel: Parcel, within_s: float) -> float:
        """Seconds to wait now: a large parcel is waited for as long as parts of it are answered."""
        return parcel.answered_at + within_s - time.monotonic()

    def store(self, tasks: Sequence[Outgoing]) -> list[SendResult]:
        """Store tasks, blocking the calling thread."""
        if self._is_interrupted:
            return self._direct.store(tasks)
        return persist(self._store, tasks, self.settings.send_timeout_s)

    def _store(self, tasks: Sequence[Outgoing], within_s: float) -> list[SendResult]:
        waiter = ThreadWaiter()
        parcel = Parcel(tasks, sizes_in_frame(tasks), waiter)
        try:
            with self._inside:
                self._post(parcel)
            while not waiter.wait(patience := self._patience(parcel, within_s)) and patience > 0:
                pass
        finally:
            with self._inside:
                waiter.leave()
                if parcel.remaining:
                    self._outbox.abandon(parcel)
                if self._outbox.returned():
                    self._wake()
            self.end_if_brief()
        return list(parcel.outcomes)

    async def store_async(self, tasks: Sequence[Outgoing]) -> list[SendResult]:
        """Store tasks, awaiting on the caller's loop."""
        return await persist_async(self._store_async, tasks, self.settings.send_timeout_s)

    async def _store_async(self, tasks: Sequence[Outgoing], within_s: float) -> list[SendResult]:
        waiter = LoopWaiter()
        parcel = Parcel(tasks, sizes_in_frame(tasks), waiter)
        try:
            with self._inside:
                self._post(parcel)
            while not await waiter.wait(patience := self._patience(parcel, within_s)) and patience > 0:
                pass
        finally:
            if parcel.remaining:
                with self._inside:
                    self._outbox.abandon(parcel)
            self.end_if_brief()
        return list(parcel.outcomes)

    def store_workflow(self, workflow: OutgoingWorkflow) -> SendResult:
        """Store a workflow, blocking the calling thread."""
        if self._is_interrupted:
            return self._direct.store_workflow(workflow)
        return self._workflows.store(workflow)

    async def store_workflow_async(self, workflow: OutgoingWorkflow) -> SendResult:
        """Store a workflow, awaiting on the caller's loop."""
        return await self._workflows.store_async(workflow)

    # Watching

    def watch(self, task_ids: Sequence[str], timeout_s: float | None) -> Watched:
        """Wait for tasks, blocking the calling thread."""
        if self._is_interrupted:
            return self._direct.watch(task_ids, timeout_s)
        waiter = ThreadWaiter()
        subscription = Subscription(set(task_ids), waiter)
        try:
            self._subscribe(subscription)
            done = waiter.wait(self._first_patience(timeout_s))
            if not done and timeout_s is None:
                self._seen(subscription, done)
                done = waiter.wait(None)
        finally:
            waiter.leave()
            self._unsubscribe(subscription)
        return self._seen(subscription, done)

    async def watch_async(self, task_ids: Sequence[str], timeout_s: float | None) -> Watched:
        """Wait for tasks, awaiting on the caller's loop."""
        waiter = LoopWaiter()
        subscription = Subscription(set(task_ids), waiter)
        try:
            self._subscribe(subscription)
            done = await waiter.wait(self._first_patience(timeout_s))
            if not done and timeout_s is None:
                self._seen(subscription, done)
                done = await waiter.wait(None)
        finally:
            self._unsubscribe(subscription)
        return self._seen(subscription, done)

    def _first_patience(self, timeout_s: float | None) -> float:
        """Seconds to wait before checking whether there is any broker; also for waits without a timeout."""
        return self.settings.send_timeout_s if timeout_s is None else timeout_s

    def _subscribe(self, subscription: Subscription) -> None:
        with self._inside:
            self._watchlist.add(subscription)
            self._wake()

    def _unsubscribe(self, subscription: Subscription) -> None:
        if subscription.pending:
            with self._inside:
                self._watchlist.remove(subscription)
                self._wake()
        self.end_if_brief()

    def _seen(self, subscription: Subscription, done: bool) -> Watched:
        life = self._life
        if not done and not subscription.states and life is not None and life.is_refused:
            raise BrokerUnavailable(f"no answer from {self.settings.broker_url}. {HOW_TO_REACH_ONE}")
        return Watched(subscription.states, subscription.failures)

    # Unary calls about what is stored

    def get(self, task_id: str) -> TaskSnapshot:
        """One task as it stands."""
        if self._is_interrupted:
            return self._direct.get(task_id)
        return self._calls.ask(lambda calls: calls.get(task_id, self.settings.send_timeout_s))

    async def get_async(self, task_id: str) -> TaskSnapshot:
        """One task as it stands."""
        return await self._calls.ask_async(lambda calls: calls.get(task_id, self.settings.send_timeout_s))

    def get_workflow(self, task_id: str) -> WorkflowSnapshot:
        """One workflow as it stands."""
        if self._is_interrupted:
            return self._direct.get_workflow(task_id)
        return self._calls.ask(lambda calls: calls.get_workflow(task_id, self.settings.send_timeout_s))

    async def get_workflow_async(self, task_id: str) -> WorkflowSnapshot:
        """As get_workflow()."""
        within_s = self.settings.send_timeout_s
        return await self._calls.ask_async(lambda calls: calls.get_workflow(task_id, within_s))

    def cancel(self, task_id: str, reason: str) -> TaskStatus | None:
        """Ask for a task to end."""
        if self._is_interrupted:
            return self._direct.cancel(task_id, reason)
        return self._calls.ask(lambda calls: calls.cancel(task_id, reason, self.settings.send_timeout_s))

    async def cancel_async(self, task_id: str, reason: str) -> TaskStatus | None:
        """Ask for a task to end."""
        within_s = self.settings.send_timeout_s
        return await self._calls.ask_async(lambda calls: calls.cancel(task_id, reason, within_s))

    def dismiss(self, task_id: str) -> bool:
        """Dismiss a dead letter."""
        if self._is_interrupted:
            return self._direct.dismiss(task_id)
        return self._calls.ask(lambda calls: calls.dismiss(task_id, self.settings.send_timeout_s))

    async def dismiss_async(self, task_id: str) -> bool:
        """As dismiss()."""
        return await self._calls.ask_async(lambda calls: calls.dismiss(task_id, self.settings.send_timeout_s))

    def complete(self, end: OutsideAnswer) -> bool:
        """End a task that waits for a call from outside."""
        if self._is_interrupted:
            return self._direct.complete(end)
        return self._calls.ask(lambda calls: calls.complete(end, self.settings.send_timeout_s))

    async def complete_async(self, end: OutsideAnswer) -> bool:
        """As complete()."""
        return await self._calls.ask_async(lambda calls: calls.complete(end, self.settings.send_timeout_s))

    def retry(self, task_id: str) -> bool:
        """Have a task run again that has ended."""
        if self._is_interrupted:
            return self._direct.retry(task_id)
        return self._calls.ask(lambda calls: calls.retry(task_id, self.settings.send_timeout_s))

    async def retry_async(self, task_id: str) -> bool:
        """As retry()."""
        return await self._calls.ask_async(lambda calls: calls.retry(task_id, self.settings.send_timeout_s))

    def replay(self, replay: Replay) -> None:
        """Store a task like an earlier one."""
        if self._is_interrupted:
            return self._direct.replay(replay)
        return self._calls.ask(lambda calls: calls.replay(replay, self.settings.send_timeout_s))

    async def replay_async(self, replay: Replay) -> None:
        """As replay()."""
        await self._calls.ask_async(lambda calls: calls.replay(replay, self.settings.send_timeout_s))

    def begin(self, make: Ask[T]) -> "Future[T]":
        """Make a unary call; if its future is cancelled, the process made way for a fork: begin it again."""
        with self._inside:
            return self._living().call(make)

    def end_if_brief(self) -> None:
        """Retire this client if it was made after the end of the main thread: a thread that still lives when
        the interpreter goes may abort it. Call it at the end of what was begun."""
        if self._is_brief:
            self.retire()
