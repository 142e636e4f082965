"""Intake: stores submitted tasks, and answers each after its commit."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from operator import attrgetter

from hyrex_broker.domain.errors import (
    BrokerError,
    InvalidField,
    StorageUnavailable,
    TaskIdConflict,
    TooManyQueues,
)
from hyrex_broker.domain.keys import KeyHit
from hyrex_broker.domain.model import LaneId, NewTask, SubmitAnswer, SubmitOutcome, TaskId
from hyrex_broker.engine.batching import Batcher, StatementSlot
from hyrex_broker.engine.dispatch.dispatcher import Dispatcher
from hyrex_broker.engine.dispatch.promoter import Promoter
from hyrex_broker.engine.growth import AT_ONCE
from hyrex_broker.engine.lane_directory import Directory
from hyrex_broker.engine.submit.handoff import Handoff
from hyrex_broker.storage import partitions
from hyrex_broker.storage.pool import StatementRefused
from hyrex_broker.storage.submit import Entry, SubmitStore

Answer = SubmitAnswer | BrokerError

_by_id = attrgetter("task.task_id")


def _size_bytes(entry: Entry) -> int:
    return len(entry.task.payload)


def _too_many(task: NewTask) -> TooManyQueues:
    return TooManyQueues(f"task {task.terms.name} of queue {task.terms.queue!r}", AT_ONCE)


class Intake:
    """Stores submitted tasks in batches, then wakes the dispatcher or the promoter."""

    def __init__(
        self,
        store: SubmitStore,
        handoff: Handoff,
        directory: Directory,
        dispatcher: Dispatcher,
        promoter: Promoter,
    ) -> None:
        self._store = store
        self._handoff = handoff
        self._directory = directory
        self._dispatcher = dispatcher
        self._promoter = promoter
        self._batcher: Batcher[Entry, Answer] = Batcher(self._flush, self._refuse, _size_bytes)

    def sizes(self) -> dict[str, int]:
        """How many tasks and batches are here now, for the printed state (SIGUSR1)."""
        return self._batcher.sizes()

    async def run(self) -> None:
        """Store batches until cancelled."""
        await self._batcher.run()

    async def submit(self, tasks: Sequence[NewTask], caller: Hashable = None) -> Sequence[Answer]:
        """Store validated tasks; return one answer for each, after the commit. Callers share the batches.

        Raises StorageUnavailable; the same tasks may then be submitted again.
        """
        lanes = await self._lanes(tasks)
        entries = [
            Entry(task, lane)
            for task in tasks
            if (lane := lanes[task.terms.queue, task.terms.name]) is not None
        ]
        if len(entries) == len(tasks):
            return await self._batcher.add(entries, caller)
        stored = iter(await self._batcher.add(entries, caller) if entries else ())
        return [
            _too_many(task) if lanes[task.terms.queue, task.terms.name] is None else next(stored)
            for task in tasks
        ]

    async def _lanes(self, tasks: Sequence[NewTask]) -> dict[tuple[str, str], LaneId | None]:
        """Find or create the tasks' lanes; None for lanes beyond what may be created now."""
        find = self._directory.find
        wanted = {(task.terms.queue, task.terms.name) for task in tasks}
        unknown = {each for each in wanted if find(*each) is None}
        if unknown:
            await self._directory.intern(unknown)
        return {each: find(*each) for each in wanted}

    async def _flush(self, entries: Sequence[Entry], statement: StatementSlot) -> list[Answer]:
        answers: dict[TaskId, Answer] = {}
        unique: dict[TaskId, Entry] = {}
        for entry in entries:
            unique.setdefault(entry.task.task_id, entry)
        pending = sorted(unique.values(), key=_by_id)
        while pending:
            stored = await self._handoff.submit(pending, statement)
            if stored is None:
                stored = await self._store.submit(pending)
                await statement.pass_on()
                self._wake(pending, stored)
            else:
                self._wake_ready(entry for entry in pending if stored.get(entry.task.task_id) is False)
            for task_id in stored:
                answers[task_id] = SubmitAnswer(task_id, SubmitOutcome.STORED)
            missing = [entry for entry in pending if entry.task.task_id not in stored]
            pending = await self._classify(missing, answers) if missing else []
        return [self._answer(entry, unique[entry.task.task_id], answers) for entry in entries]

    def _answer(self, entry: Entry, first: Entry, answers: dict[TaskId, Answer]) -> Answer:
        answer = answers[entry.task.task_id]
        if entry is first or not isinstance(answer, SubmitAnswer):
            return answer
        if entry.task.digest != first.task.digest:
            return TaskIdConflict(entry.task.task_id)
        if answer.outcome is SubmitOutcome.STORED:
            return SubmitAnswer(answer.task_id, SubmitOutcome.REPEATED)
        return answer

    async def _classify(self, missing: list[Entry], answers: dict[TaskId, Answer]) -> list[Entry]:
        """Answer the tasks that a statement did not store; return those that must be tried again (rule 4)."""
        known = await self._store.classify(missing)
        undecided = []
        for entry in missing:
            task_id = entry.task.task_id
            found = known[task_id]
            if found.digest is not None:
                same = found.digest == entry.task.digest
                answers[task_id] = (
                    SubmitAnswer(task_id, SubmitOutcome.REPEATED) if same else TaskIdConflict(task_id)
                )
            elif found.holder is not None:
                answers[task_id] = KeyHit(found.holder.task_id, SubmitOutcome.DEDUPLICATED, found.holder)
            else:
                undecided.append(entry)
        return undecided

    def _wake(self, entries: list[Entry], stored: Mapping[TaskId, bool]) -> None:
        self._wake_ready(entry for entry in entries if stored.get(entry.task.task_id) is False)
        for entry in entries:
            if stored.get(entry.task.task_id):
                self._promoter.expect()
                return

    def _wake_ready(self, entries: Iterable[Entry]) -> None:
        pairs = {(entry.lane, entry.task.terms.rank) for entry in entries}
        if pairs:
            self._dispatcher.wake(pairs, local=True)

    async def _refuse(self, entry: Entry, error: StatementRefused) -> Answer:
        """The answer for the task because of which the database refused a batch. Raises StorageUnavailable if
        only a partition is missing, as after days in which no broker ran."""
        if error.lacks_partition and partitions.is_near(entry.task.task_id):
            raise StorageUnavailable("a day has no partition yet; it is being made")
        return InvalidField(
            "task", entry.task.task_id, f"the database refused it ({error.sqlstate}: {error})"
        )
