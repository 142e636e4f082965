"""Stores workflows: all tasks of one, or none of them."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from hyrex_broker.domain.blocks import TaskBatch, TaskBlock, batch_of, stretched
from hyrex_broker.domain.errors import (
    BrokerError,
    InvalidField,
    StorageUnavailable,
    TaskIdConflict,
    TooManyQueues,
)
from hyrex_broker.domain.ids import HexId, hex_id, task_id
from hyrex_broker.domain.model import SubmitAnswer, SubmitOutcome, TaskId
from hyrex_broker.domain.workflows import Workflow
from hyrex_broker.engine.dispatch.promoter import Promoter
from hyrex_broker.engine.extra_slots import LanesAndRooms
from hyrex_broker.engine.growth import AT_ONCE
from hyrex_broker.engine.submit.answers import Answer, told
from hyrex_broker.engine.submit.keyed import NO_BUCKETS, KeyHasher
from hyrex_broker.engine.submit.parts import by_lane, lane_of
from hyrex_broker.storage import partitions
from hyrex_broker.storage.sqlstates import StatementRefused
from hyrex_broker.storage.submit import SubmitStore, is_repetition
from hyrex_broker.storage.workflows import WorkflowStore

_ATTEMPTS: Final = 5


class RefusedNode(BrokerError):
    """One of a workflow's tasks may not be stored, so none is. `node` is empty for the root."""

    def __init__(self, node: str, error: BrokerError) -> None:
        super().__init__(error.message, error.metadata)
        self.node = node
        self.error = error


class WorkflowIntake:
    """Stores workflows, and wakes whoever moves their tasks on."""

    def __init__(
        self,
        store: WorkflowStore,
        submits: SubmitStore,
        places: LanesAndRooms,
        promoter: Promoter,
        hasher: KeyHasher,
    ) -> None:
        self._store = store
        self._submits = submits
        self._directory = places.directory
        self._rooms = places.rooms
        self._dispatcher = places.dispatcher
        self._promoter = promoter
        self._hasher = hasher
        self.on_blocked: Callable[[Iterable[TaskId]], None] = lambda task_ids: None
        """Called with tasks that were put into `blocked` and may go on, after the commit."""

    async def submit(self, workflow: Workflow) -> Answer:
        """Store a workflow; the answer of its root. Raises RefusedNode, StorageUnavailable; it may be called
        again then."""
        blocks = await self._placed(workflow.blocks)
        taken = await self._rooms.taken(blocks, self._directory.max_waiting)
        try:
            for block, room in zip(blocks, taken.counts, strict=True):
                if room < len(block):
                    first = task_id(block.ids[room])
                    raise RefusedNode(workflow.names().get(first, ""), self._rooms.refusal(block.terms.queue))
            return await self._stored(workflow, batch_of(blocks))
        finally:
            taken.let_go()

    async def _placed(self, blocks: Sequence[TaskBlock]) -> list[TaskBlock]:
        """The tasks of blocks with their lanes, all of which are followed. Raises RefusedNode where these
        would be more than may be made now."""
        fair = [block for block in blocks if block.fair_keys is not None]
        buckets = await self._hasher.buckets(fair) if fair else NO_BUCKETS
        parts = [
            part.block for number, block in enumerate(blocks) for part in by_lane(number, block, buckets)
        ]
        wanted = [lane_of(part)._replace(followed=True) for part in parts]
        unknown = {key for key in wanted if self._directory.find(*key) is None}
        if unknown:
            await self._directory.intern(unknown)
        for part, key in zip(parts, wanted, strict=True):
            lane = self._directory.find(*key)
            if lane is None:
                raise RefusedNode("", TooManyQueues(f"task {key.name} of queue {key.queue!r}", AT_ONCE))
            part.lane = lane
        return parts

    async def _stored(self, workflow: Workflow, batch: TaskBatch) -> Answer:
        hashes = await self._hashes(batch)
        for _ in range(_ATTEMPTS):
            try:
                if await self._store.submit(workflow, batch, hashes):
                    self._wake(workflow, batch, hashes)
                    return SubmitAnswer(workflow.root_id, SubmitOutcome.STORED)
            except StatementRefused as error:
                if not is_repetition(error):
                    raise _refused(workflow, error) from error
            answer = await self._known(workflow, batch)
            if answer is not None:
                return answer
        raise StorageUnavailable("others keep storing tasks of this workflow", conflict=True)

    async def _hashes(self, batch: TaskBatch) -> dict[HexId, int]:
        if not any(batch.concurrency_keys):
            return {}
        keys = stretched(batch.concurrency_keys, len(batch))
        hashed = await self._hasher.hashes(batch)
        return {
            digits: found
            for digits, key, found in zip(batch.ids, keys, hashed, strict=True)
            if key is not None
        }

    async def _known(self, workflow: Workflow, batch: TaskBatch) -> Answer | None:
        """The answer where something of it was stored before; None if nothing is any more. Raises
        RefusedNode."""
        found = dict(zip(batch.ids, await self._submits.classify(batch), strict=True))
        root = hex_id(workflow.root_id)
        answer = told(root, batch.digests[batch.ids.index(root)], found[root])
        if answer is not None:
            return answer
        for node in workflow.nodes:
            if found[hex_id(node.task_id)].digest is not None:
                raise RefusedNode(node.name, TaskIdConflict(node.task_id))
        return None

    def _wake(self, workflow: Workflow, batch: TaskBatch, hashes: Mapping[HexId, int]) -> None:
        count = len(batch)
        lanes = stretched(batch.lanes, count)
        self._store.counters.stored(Counter(lanes))
        sources = {hex_id(node.task_id) for node in workflow.nodes if not node.edges}
        ready = {
            (lane, terms.rank)
            for digits, lane, terms in zip(batch.ids, lanes, stretched(batch.terms, count), strict=True)
            if digits in sources
        }
        self._dispatcher.wake(ready, local=True)
        self._promoter.expect()
        keyed = [task_id(digits) for digits in hashes if digits in sources]
        if keyed:
            self.on_blocked(keyed)


def _refused(workflow: Workflow, error: StatementRefused) -> BrokerError:
    if error.lacks_partition and partitions.is_near(workflow.root_id):
        return StorageUnavailable("a day has no partition yet; it is being made")
    said = f"the database refused it ({error.sqlstate}: {error})"
    return RefusedNode("", InvalidField("workflow", workflow.root_id, said))
