"""Large payloads: runs whose payloads were too large to come with their assignment.

Each is a task of its own, so nobody waits for the megabytes of another session: payloads are read some
megabytes at a time, and sent as they come.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.model import AssignedRun
from hyrex_broker.engine.sessions.registry import Sessions
from hyrex_broker.engine.sessions.session import ServedSession
from hyrex_broker.storage.assign import AssignStore, Taken

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
    left: list[Taken]


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

    def begin(self, session: ServedSession, sequence: int, taken: Sequence[Taken]) -> None:
        """Send these runs when their payloads are here; until then no frame promises them."""
        session.trailing.add(sequence)
        unsent = UnsentRuns(session, sequence, list(taken))
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
            part = unsent.left[: _fitting(unsent.left, most_bytes)]
            try:
                runs = await self._with_payloads(part)
            except StorageUnavailable as error:
                log.debug("payloads wait for the database", extra={"error": str(error)})
                if error.timed_out:
                    most_bytes = most_bytes // 2
                await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)
                continue
            del unsent.left[: len(part)]
            self._send(unsent, runs)
        del self._open[unsent]

    async def _with_payloads(self, taken: Sequence[Taken]) -> list[AssignedRun]:
        missing = [each.run.task_id for each in taken if each.size is not None]
        async with self._statements:
            payloads = await self._assigns.payloads(missing) if missing else {}
        return [
            each.run if each.size is None else replace(each.run, payload=payloads[each.run.task_id])
            for each in taken
            if each.size is None or each.run.task_id in payloads
        ]

    def _send(self, unsent: UnsentRuns, runs: Sequence[AssignedRun]) -> None:
        session = unsent.session
        if not unsent.left:
            session.trailing.discard(unsent.sequence)
        # What was ended meanwhile (an overdue cancel) is held by nobody any more.
        held = [run for run in runs if run.token in session.leases]
        if held:
            session.link.push_assignments(session.receipt, held)


def _fitting(taken: Sequence[Taken], most_bytes: int) -> int:
    """How many of the first runs have no more to be read than that together; at least one."""
    total = 0
    for count, each in enumerate(taken):
        total += each.size or 0
        if count and total > most_bytes:
            return count
    return len(taken)
