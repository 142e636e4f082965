"""What the SDK needs of whoever keeps tasks: a broker, or the tests' inline stand-in."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hyrex.backend.outgoing import Outcome, Outgoing
from hyrex.errors import HyrexError
from hyrex.runs import TaskSnapshot
from hyrex.status import TaskStatus

__all__ = ["Backend", "Watched"]


@dataclass(slots=True)
class Watched:
    """What a watch saw until it was over or its time was up."""

    states: dict[str, TaskSnapshot] = field(default_factory=dict)
    failures: dict[str, HyrexError] = field(default_factory=dict)


class Backend(Protocol):
    """Stores, reads, watches and cancels tasks."""

    @property
    def is_silent(self) -> bool:
        """Whether no broker said why there was no result."""
        ...

    @property
    def silence(self) -> str:
        """What to tell a user when no answer came."""

    def store(self, tasks: Sequence[Outgoing]) -> list[Outcome]:
        """Store tasks; outcomes in order. WAITING and UNANSWERED ones had no answer in time."""

    async def store_async(self, tasks: Sequence[Outgoing]) -> list[Outcome]:
        """As store(), for a caller on a loop."""

    def get(self, task_id: str) -> TaskSnapshot:
        """One task as it stands; raises TaskNotFound, BrokerUnavailable, CallRejected."""

    async def get_async(self, task_id: str) -> TaskSnapshot:
        """As get()."""

    def watch(self, task_ids: Sequence[str], timeout_s: float | None) -> Watched:
        """Wait until all are final or the time is up; raises BrokerUnavailable if nobody was there."""

    async def watch_async(self, task_ids: Sequence[str], timeout_s: float | None) -> Watched:
        """As watch()."""

    def cancel(self, task_id: str, reason: str) -> TaskStatus | None:
        """Ask for a task to end; its status now, None if it was over. Raises TaskNotFound and so on."""

    async def cancel_async(self, task_id: str, reason: str) -> TaskStatus | None:
        """As cancel()."""
