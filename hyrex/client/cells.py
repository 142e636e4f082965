"""The backend for several cells: tasks go to their queue's cell, and what is known by its id is found there.

A backend of backends: each cell has a client of its own, with its own thread, channel and timeouts.
docs/adr/0013-cells.md says what is per cell.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Final

from hyrex.backend.outgoing import (
    Deduplicated,
    Outgoing,
    OutgoingBatch,
    Postponed,
    Progress,
    SendResult,
    Untimely,
)
from hyrex.backend.outgoing_workflow import OutgoingWorkflow
from hyrex.backend.protocol import OutsideAnswer, Replay, Watched
from hyrex.backend.send_spec import SendSpec
from hyrex.backend.workflow_state import WorkflowSnapshot
from hyrex.cells import Cell, CellRoutes
from hyrex.client.cell import CellClient
from hyrex.client.finder import Finder
from hyrex.client.homes import Homes, key_of, keys_of
from hyrex.client.postponed import Store, persist, persist_async
from hyrex.client.split import Split
from hyrex.config import Settings
from hyrex.errors import HyrexError, SendRejected
from hyrex.runs import TaskSnapshot
from hyrex.status import TaskStatus

__all__ = ["CellsBackend"]

StoreAsync = Callable[[Sequence[Outgoing], float], Awaitable[list[SendResult]]]
_homes: Final = Homes()
"""Of this process, whatever its routes become: a send is repeated where it was made."""
_silent: ContextVar[tuple[CellClient, ...]] = ContextVar("hyrex_silent_cells", default=())
"""The cells that left tasks of this caller's last send without an answer."""


class CellsBackend:
    """Calls of one process to its cells. It may be shared as a RemoteBackend may."""

    def __init__(self, settings: Settings) -> None:
        assert settings.cells is not None, "a process without cells has a RemoteBackend"
        self.settings = settings
        self._cells: CellRoutes = settings.cells
        self._clients = [CellClient(cell, settings) for cell in self._cells.cells]
        self._former: dict[str, CellClient] = {}
        """By URL: cells without a route, of tasks that were sent to them before."""
        self._lock = threading.RLock()
        self._finder = Finder(self._clients, self._home, settings.send_timeout_s)

    @property
    def is_silent(self) -> bool:
        """False: the text says which cell did not answer, and starting another broker would not help."""
        return False

    @property
    def silence(self) -> str:
        """The beginning of an error text for a call without an answer."""
        return "; ".join(client.silence for client in _silent.get()) or "no answer from the task's cell"

    # The life of a client

    def pause(self) -> bool:
        """Let all threads and channels go, so that the process may fork."""
        self._lock.acquire()
        paused = [client.pause() for client in self._all()]  # all of them, whatever the first says
        return all(paused)

    def resume(self) -> None:
        """Go on after pause()."""
        for client in self._all():
            client.resume()
        self._lock.release()

    def forget(self) -> None:
        """After pause(), in the child."""
        for client in self._all():
            client.forget()
        self._lock.release()

    def retire(self) -> bool:
        """Close the clients for which nobody waits. Return True if all are closed."""
        retired = [client.retire() for client in self._all()]
        return all(retired)

    def close(self) -> None:
        """End all threads and channels."""
        for client in self._all():
            client.close()

    def _all(self) -> list[CellClient]:
        return [*self._clients, *self._former.values()]

    def _at(self, url: str) -> CellClient:
        """The client of a cell that tasks were sent to; maybe before the routes were changed."""
        for client in self._all():
            if client.cell.url == url:
                return client
        with self._lock:
            found = self._former.get(url)
            if found is None:
                found = self._former[url] = CellClient(Cell(url, ("a former route",)), self.settings)
            return found

    # Storing

    def store(self, tasks: Sequence[Outgoing]) -> list[SendResult]:
        """Store tasks, each in the cell of its queue; one that was sent before, where that was."""
        _silent.set(())
        split = self._split(tasks)
        if (only := split.only) is not None:
            outcomes = only.store(tasks)
        elif any(client.is_interrupted for client in split.places):
            outcomes = split.merged(
                tasks, [each.store(_part(tasks, at)) for each, at in split.places.items()]
            )
        else:
            outcomes = persist(self._storing(tasks, split), tasks, self.settings.send_timeout_s)
        self._conclude(tasks, outcomes, split)
        return outcomes

    async def store_async(self, tasks: Sequence[Outgoing]) -> list[SendResult]:
        """As store()."""
        _silent.set(())
        split = self._split(tasks)
        if (only := split.only) is not None:
            outcomes = await only.store_async(tasks)
        else:
            storing = self._storing_async(tasks, split)
            outcomes = await persist_async(storing, tasks, self.settings.send_timeout_s)
        self._conclude(tasks, outcomes, split)
        return outcomes

    def _storing(self, all_tasks: Sequence[Outgoing], first: Split) -> Store:
        """What stores all tasks, or some of them again; `first` is how all are split."""

        def store(tasks: Sequence[Outgoing], within_s: float) -> list[SendResult]:
            split = first if tasks is all_tasks else self._split(tasks)
            with ExitStack() as stack:
                posted = [
                    stack.enter_context(each.posted(_part(tasks, at))) for each, at in split.places.items()
                ]
                for each in posted:
                    each.wait(within_s)
            return split.merged(tasks, [each.parcel.outcomes for each in posted])

        return store

    def _storing_async(self, all_tasks: Sequence[Outgoing], first: Split) -> StoreAsync:
        async def store(tasks: Sequence[Outgoing], within_s: float) -> list[SendResult]:
            split = first if tasks is all_tasks else self._split(tasks)
            calls = (each.stored(_part(tasks, at), within_s) for each, at in split.places.items())
            return split.merged(tasks, await asyncio.gather(*calls))

        return store

    def _split(self, tasks: Sequence[Outgoing]) -> Split:
        keys = keys_of(tasks)
        split = Split(keys, _homes.known(keys))
        if isinstance(tasks, OutgoingBatch) and len(tasks.specs) == 1 and not split.known:
            split.put(self._route(tasks.specs[0]), range(len(keys)))
        else:
            routes: dict[SendSpec, CellClient | SendRejected] = {}
            for at, key in enumerate(keys):
                spec = tasks.spec_at(at) if isinstance(tasks, OutgoingBatch) else tasks[at].spec
                route = routes.get(spec) if key not in split.known else self._at(split.known[key])
                if route is None:
                    route = routes[spec] = self._route(spec)
                split.put(route, (at,))
        for client, places in split.places.items():
            ours = keys if len(places) == len(keys) else [keys[at] for at in places]
            _homes.remember(ours, client.cell.url)
        return split

    def _route(self, spec: SendSpec) -> CellClient | SendRejected:
        """The cell of a task's queue, unless its key has to be looked for in another one."""
        place = self._cells.place_of(spec.config.queue)
        own = spec.task.config.queue
        if spec.options.idempotency_key is None or self._cells.place_of(own) == place:
            return self._clients[place]
        here, there = self._cells.of(own).name, self._cells.of(spec.config.queue).name
        return SendRejected(
            f"{spec.config.name} has an idempotency key, which is looked for in one cell, that of its own "
            f"queue {own!r} ({here}); this send is for queue {spec.config.queue!r} of another one ({there}), "
            "where the same key would be stored again: send it without a key, or to a queue of its own cell",
            "SPANS_CELLS",
        )

    def _conclude(self, tasks: Sequence[Outgoing], outcomes: Sequence[SendResult], split: Split) -> None:
        """Forget what is nowhere, remember what was there before. Note which cells were silent."""
        if outcomes.count(Progress.STORED) == len(outcomes):
            return
        silent: list[CellClient] = []
        for client, places in split.places.items():
            if any(outcomes[at] in (Progress.WAITING, Progress.UNANSWERED) for at in places):
                silent.append(client)
            keys = [split.keys[at] for at in places if _is_nowhere(outcomes[at])]
            _homes.forget(key for key in keys if key not in split.known)
            results = [outcomes[at] for at in places]
            firsts = [key_of(each.task_id) for each in results if isinstance(each, Deduplicated)]
            _homes.remember(firsts, client.cell.url)
        _silent.set(tuple(silent))

    def store_workflow(self, workflow: OutgoingWorkflow) -> SendResult:
        """Store a workflow in the cell of its queue, which has to be that of all of its nodes."""
        _silent.set(())
        split = self._split_workflow(workflow)
        only = split.only
        outcome = split.refused[0] if only is None else only.store_workflow(workflow)
        self._conclude(workflow.tasks, [outcome] * len(workflow.tasks), split)
        return outcome

    async def store_workflow_async(self, workflow: OutgoingWorkflow) -> SendResult:
        """As store_workflow()."""
        _silent.set(())
        split = self._split_workflow(workflow)
        only = split.only
        outcome = split.refused[0] if only is None else await only.store_workflow_async(workflow)
        self._conclude(workflow.tasks, [outcome] * len(workflow.tasks), split)
        return outcome

    def _split_workflow(self, workflow: OutgoingWorkflow) -> Split:
        """All of its tasks in one cell, or all refused."""
        split = self._split(workflow.tasks)
        if split.only is None:
            refusal = next(iter(split.refused.values()), None) or self._spanning(workflow)
            _homes.forget(key for key in split.keys if key not in split.known)
            split.places.clear()
            split.refused = dict.fromkeys(range(len(workflow.tasks)), refusal)
        return split

    def _spanning(self, workflow: OutgoingWorkflow) -> SendRejected:
        queues = [spec.config.queue for spec in workflow.tasks.specs]
        at = next(at for at, queue in enumerate(queues) if self._cells.of(queue) != self._cells.of(queues[0]))
        here, there = self._cells.of(queues[0]).name, self._cells.of(queues[at]).name
        return SendRejected(
            f"workflow {workflow.tasks.specs[0].config.name} is in queue {queues[0]!r} ({here}), and its node"
            f" {workflow.names[at - 1]} in queue {queues[at]!r} of another cell ({there}): a workflow is in"
            " one cell; give its tasks queues of that one",
            "SPANS_CELLS",
        )

    # Reading, cancelling and watching

    def _home(self, task_id: str) -> CellClient | None:
        """The cell of a task that this process has sent lately."""
        url = _homes.of(key_of(task_id))
        return None if url is None else self._at(url)

    def get(self, task_id: str) -> TaskSnapshot:
        """One task as it stands, from whichever cell has it."""
        return self._finder.get(task_id)

    async def get_async(self, task_id: str) -> TaskSnapshot:
        """As get()."""
        return await self._finder.get_async(task_id)

    def cancel(self, task_id: str, reason: str) -> TaskStatus | None:
        """Ask for a task to end, in whichever cell has it."""
        return self._finder.cancel(task_id, reason)

    async def cancel_async(self, task_id: str, reason: str) -> TaskStatus | None:
        """As cancel()."""
        return await self._finder.cancel_async(task_id, reason)

    def dismiss(self, task_id: str) -> bool:
        """Dismiss a dead letter, in whichever cell has it."""
        return self._finder.dismiss(task_id)

    async def dismiss_async(self, task_id: str) -> bool:
        """As dismiss()."""
        return await self._finder.dismiss_async(task_id)

    def get_workflow(self, task_id: str) -> WorkflowSnapshot:
        """One workflow as it stands, from whichever cell has it."""
        return self._finder.get_workflow(task_id)

    async def get_workflow_async(self, task_id: str) -> WorkflowSnapshot:
        """As get_workflow()."""
        return await self._finder.get_workflow_async(task_id)

    def retry(self, task_id: str) -> bool:
        """Have a task run again, in whichever cell has it."""
        return self._finder.retry(task_id)

    async def retry_async(self, task_id: str) -> bool:
        """As retry()."""
        return await self._finder.retry_async(task_id)

    def complete(self, end: OutsideAnswer) -> bool:
        """End a task that waits for a call from outside, in whichever cell has it."""
        return self._finder.complete(end)

    async def complete_async(self, end: OutsideAnswer) -> bool:
        """As complete()."""
        return await self._finder.complete_async(end)

    def replay(self, replay: Replay) -> None:
        """Store a task like an earlier one, in the cell of that one."""
        self._finder.replay(replay)

    async def replay_async(self, replay: Replay) -> None:
        """As replay()."""
        await self._finder.replay_async(replay)

    def watch(self, task_ids: Sequence[str], timeout_s: float | None) -> Watched:
        """Wait for tasks, in all their cells at once."""
        return self._finder.watch(task_ids, timeout_s)

    async def watch_async(self, task_ids: Sequence[str], timeout_s: float | None) -> Watched:
        """As watch()."""
        return await self._finder.watch_async(task_ids, timeout_s)


def _part(tasks: Sequence[Outgoing], places: Sequence[int]) -> Sequence[Outgoing]:
    if len(places) == len(tasks):
        return tasks
    return tasks.at(places) if isinstance(tasks, OutgoingBatch) else [tasks[at] for at in places]


def _is_nowhere(outcome: SendResult) -> bool:
    """Return True if the task is certainly not stored."""
    if isinstance(outcome, Postponed):
        return not outcome.may_be_stored
    return outcome is Progress.WAITING or isinstance(outcome, (Untimely, HyrexError))
