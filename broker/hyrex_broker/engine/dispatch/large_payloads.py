"""Sends runs of which something is still to be read after their assign: payloads that were too large to be
read with it, and what nodes of workflows are given.

Each session's part is an asyncio task of its own, so that no session waits for the payloads of another. They
are read some megabytes at a time, and sent as they arrive.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from hyrex_broker.domain.assigned import AssignedBlock, each
from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.engine.lane_directory import Directory
from hyrex_broker.engine.sessions.registry import Sessions
from hyrex_broker.engine.sessions.session import ServedSession
from hyrex_broker.storage.assign import AssignStore
from hyrex_broker.storage.workflows import WorkflowStore

log = logging.getLogger(__name__)

SLICE_BYTES: Final = 8 * 1024 * 1024
"""How much one statement reads at most, except a single larger payload: more might exceed its timeout."""
_NODES_AT_ONCE: Final = 1000
"""For how many runs one statement reads whose nodes they are."""
_BOUND_AT_ONCE: Final = 200
"""For how many of them one reads what they are given: each may have a thousand upstreams."""
_AT_ONCE: Final = 2
"""How many statements read payloads at once: the other connections are for short statements."""
_PAUSE_AFTER_FAILURE_S: Final = 0.2
_PAUSE_WHILE_FULL_S: Final = 0.05


@dataclass(slots=True, eq=False)
class UnsentRuns:
    """Runs of one assign that are still to be sent to one session, in order."""

    session: ServedSession
    sequence: int
    left: list[AssignedBlock]


class LargePayloads:
    """Reads payloads, and sends the runs that wait for them."""

    def __init__(
        self, assigns: AssignStore, workflows: WorkflowStore, directory: Directory, sessions: Sessions
    ) -> None:
        self._assigns = assigns
        self._workflows = workflows
        self._directory = directory
        self._sessions = sessions
        self._open: dict[UnsentRuns, None] = {}
        self._statements = asyncio.Semaphore(_AT_ONCE)
        self._tasks: asyncio.TaskGroup | None = None

    @property
    def count(self) -> int:
        """How many assigns still have runs that wait for their payloads."""
        return len(self._open)

    def is_whole(self, block: AssignedBlock) -> bool:
        """Return True if nothing of it is to be read."""
        return not (block.sizes or self._may_be_nodes(block))

    def _may_be_nodes(self, block: AssignedBlock) -> bool:
        """Return True if its runs may be of nodes, which have a parent, and are followed."""
        return bool(block.parent_ids) and self._directory.may_be_followed(block.lane)

    def begin(self, session: ServedSession, sequence: int, blocks: Sequence[AssignedBlock]) -> None:
        """Send these runs when their payloads are read. Until then the receipts stay below this sequence."""
        session.trailing.add(sequence)
        unsent = UnsentRuns(session, sequence, list(blocks))
        self._open[unsent] = None
        if self._tasks is not None:
            self._tasks.create_task(self._send_all(unsent))

    async def run(self) -> None:
        """Send until cancelled; goes on with what an earlier `run` left."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                for unsent in self._open:
                    self._tasks.create_task(self._send_all(unsent))
                await asyncio.Event().wait()
        finally:
            self._tasks = None

    async def _send_all(self, unsent: UnsentRuns) -> None:
        session, most_bytes = unsent.session, SLICE_BYTES
        # If the stream has ended, the broker that resumes the session returns what it never received.
        while unsent.left and self._sessions.by_id.get(session.session_id) is session:
            if session.link.backlogged:
                await asyncio.sleep(_PAUSE_WHILE_FULL_S)
                continue
            part, rest = _cut(unsent.left, most_bytes)
            try:
                blocks, later = await self._whole(part, most_bytes)
            except StorageUnavailable as error:
                log.debug("payloads wait for the database", extra={"error": str(error)})
                if error.timed_out:
                    most_bytes = most_bytes // 2
                await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)
                continue
            # Many nodes may be given one result, each in its own run.
            blocks, more = _cut(blocks, SLICE_BYTES)
            unsent.left = [*more, *later, *rest]
            self._send(unsent, blocks)
        del self._open[unsent]

    async def _with_payloads(self, block: AssignedBlock) -> AssignedBlock:
        """The block with its payloads; without the runs whose tasks are gone."""
        missing = [i for i, size in enumerate(each(block.sizes, len(block), 0)) if size]
        if not missing:
            return block
        async with self._statements:
            found = await self._assigns.payloads([block.task_ids[place] for place in missing])
        payloads = list(block.payloads)
        for place in missing:
            payloads[place] = found.get(block.task_ids[place], b"")
        gone = {place for place in missing if block.task_ids[place] not in found}
        whole = replace(block, payloads=payloads, sizes=())
        return whole.taking([place for place in range(len(block)) if place not in gone]) if gone else whole

    async def _with_nodes(
        self, block: AssignedBlock, most_bytes: int
    ) -> tuple[AssignedBlock, AssignedBlock | None]:
        """The block with what those of its runs are given that are nodes, and what is left of it if that is
        too much for one statement."""
        if block.nodes or not (len(block) and self._may_be_nodes(block)):
            return block, None
        nodes, bound = (max(1, each * most_bytes // SLICE_BYTES) for each in (_NODES_AT_ONCE, _BOUND_AT_ONCE))
        async with self._statements:
            found, count = await self._workflows.runs_of(block.task_ids[:nodes], most_bytes, bound)
        done, left = block.part(0, count), block.part(count, len(block)) if count < len(block) else None
        return (replace(done, nodes=[found.get(each) for each in done.task_ids]) if found else done), left

    async def _whole(
        self, part: Sequence[AssignedBlock], most_bytes: int
    ) -> tuple[list[AssignedBlock], list[AssignedBlock]]:
        """These runs with all that they are given, and those for which a further statement is needed."""
        whole: list[AssignedBlock] = []
        for number, read in enumerate(part):
            block, left = await self._with_nodes(await self._with_payloads(read), most_bytes)
            whole.append(block)
            if left is not None:
                return whole, [left, *part[number + 1 :]]
        return whole, []

    def _send(self, unsent: UnsentRuns, blocks: Sequence[AssignedBlock]) -> None:
        session = unsent.session
        # Without runs whose lease was ended meanwhile (by an overdue cancel).
        held = [_held(block, session) for block in blocks]
        held = [block for block in held if len(block)]
        session.push(held, last_of=None if unsent.left else unsent.sequence)


def _held(block: AssignedBlock, session: ServedSession) -> AssignedBlock:
    places = [place for place, token in enumerate(block.tokens) if token in session.leases]
    return block if len(places) == len(block) else block.taking(places)


def _cut(blocks: Sequence[AssignedBlock], most_bytes: int) -> tuple[list[AssignedBlock], list[AssignedBlock]]:
    """Split blocks: the first runs with no more than `most_bytes` together of payloads that are to be read
    and of what nodes are given, at least one run, and the rest."""
    total = 0
    for number, block in enumerate(blocks):
        nodes = each(block.nodes, len(block), None)
        for place, (size, node) in enumerate(zip(each(block.sizes, len(block), 0), nodes, strict=True)):
            total += size + (node.size_bytes if node else 0)
            if total > most_bytes and (number or place):
                first = [*blocks[:number], *([block.part(0, place)] if place else [])]
                return first, [block.part(place, len(block)), *blocks[number + 1 :]]
    return list(blocks), []
