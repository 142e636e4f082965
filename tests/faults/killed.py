"""What all paths have in common of which brokers are killed between every two statements."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from tests.faults.doomed import Doomed
from tests.faults.field import Field
from tests.integration.storage.stage import Stage

IN_PLACES: Final = "select count(*) from live where task_id = any (select id from task)"


@dataclass
class Path:
    """What brokers do, one after the other: each is killed at the next point."""

    field: Field
    listen: str = "127.0.0.1:0"
    loops: ClassVar[Sequence[str]] = ()
    points: ClassVar[Sequence[str]]
    sometimes: ClassVar[Sequence[str]] = ()
    """What its loops come by only if nobody else was there first; its bare name is among the points."""

    def __post_init__(self) -> None:
        """Begin with nothing."""

    async def prepare(self, stage: Stage, number: int) -> None:
        """Before a broker is started: give it something to do. The last one finds what is left, too."""

    def ask(self, broker: Doomed, number: int) -> None:
        """What a client asks of a broker; the broker may be killed by it."""

    async def is_done(self, stage: Stage) -> bool:
        """Return True if the last broker has nothing left to do."""
        raise NotImplementedError

    async def check(self, stage: Stage) -> None:
        """Nothing is lost, doubled or over a maximum."""
