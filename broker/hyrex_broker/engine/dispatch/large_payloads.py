"""Large payloads: runs whose payloads were too large to come with their assignment.

Each is a task of its own, so nobody waits for the megabytes of another session: payloads are read some
megabytes at a time, and sent as they come.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from hyrex_broker.domain.assigned import AssignedBlock, each
from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.engine.sessions.registry import Sessions
from hyrex_broker.engine.sessions.session import ServedSession
from hyrex_broker.storage.assign import AssignStore

log = logging.getLogger(__name__)

SLICE_BYTES: Final = 8 * 1024 * 1024
"""What one statement reads at most, or one payload: more might outlast its timeout."""
_AT_ONCE: Final = 2
"""Statements that read payloads at a time: the other connections are for what is small."""
_PAUSE_AFTER_FAILURE_S: Final = 0.2
_PAUSE_WHILE_FULL_S: Final = 0.05


@dataclass(slots=True, eq=False)
class UnsentRuns:
    """Runs of one assign that are still to be sent to one session, in order."""

    session: ServedSession
    sequence: int
    left: list[AssignedBlock]


class LargePayloads:
    """Reads payloads and sends the runs that wait for them, however long that takes."""

    def __init__(self, assigns: AssignStore, sessions: Sessions) -> None:
        self._assigns = assigns
        self._sessions = sessions
        self._open: dict[UnsentRuns, None] = {}
        self._statements = asyncio.Semaphore(_AT_ONCE)
        self._tasks: asyncio.TaskGroup | None = None

    @property
    def count(self) -> int:
        """Assigns of which some runs still wait for their payloads."""
        return len(self._open)

    def begin(self, session: ServedSession, sequence: int, blocks: Sequence[AssignedBlock]) -> None:
        """Send these runs when their payloads are here; until then no frame promises them."""
        session.trailing.add(sequence)
        unsent = UnsentRuns(session, sequence, list(blocks))
        self._open[unsent] = None
        if self._tasks is not None:
            self._tasks.create_task(self._send_all(unsent))

    async def run(self) -> None:
        """Deliver until cancelled; what was interrupted is taken up again."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                for unsent in self._open:
                    self._tasks.create_task(self._send_all(unsent))
                await asyncio.Event().wait()
        finally:
            self._tasks = None

    async def _send_all(self, unsent: UnsentRuns) -> None:
        session, most_bytes = unsent.session, SLICE_BYTES
        # Where its stream has ended, whoever resumes the session returns what it never received.
        while unsent.left and self._sessions.by_id.get(session.session_id) is session:
            if session.link.backlogged:
                await asyncio.sleep(_PAUSE_WHILE_FULL_S)
                continue
            part, rest = _cut(unsent.left, most_bytes)
            try:
                blocks = [await self._with_payloads(block) for block in part]
            except StorageUnavailable as error:
                log.debug("payloads wait for the database", extra={"error": str(error)})
                if error.timed_out:
                    most_bytes = most_bytes // 2
                await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)
                continue
            unsent.left = rest
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

    def _send(self, unsent: UnsentRuns, blocks: Sequence[AssignedBlock]) -> None:
        session = unsent.session
        if not unsent.left:
            session.trailing.discard(unsent.sequence)
        # What was ended meanwhile (an overdue cancel) is held by nobody any more.
        held = [_held(block, session) for block in blocks]
        held = [block for block in held if len(block)]
        if held:
            session.link.push_assignments(session.receipt, held)


def _held(block: AssignedBlock, session: ServedSession) -> AssignedBlock:
    places = [place for place, token in enumerate(block.tokens) if token in session.leases]
    return block if len(places) == len(block) else block.taking(places)


def _cut(blocks: Sequence[AssignedBlock], most_bytes: int) -> tuple[list[AssignedBlock], list[AssignedBlock]]:
    """The first runs of some blocks that have no more to be read than that together, at least one; and the
    rest of them."""
    total = 0
    for number, block in enumerate(blocks):
        for place, size in enumerate(each(block.sizes, len(block), 0)):
            total += size
            if total > most_bytes and (number or place):
                first = [*blocks[:number], *([block.part(0, place)] if place else [])]
                return first, [block.part(place, len(block)), *blocks[number + 1 :]]
    return list(blocks), []
