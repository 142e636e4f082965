"""A send to several cells: which of its tasks go where."""

from collections.abc import Mapping, Sequence

from hyrex.backend.outgoing import Outgoing, Progress, SendResult
from hyrex.client.cell import CellClient
from hyrex.errors import SendRejected

__all__ = ["Split"]


class Split:
    """Tasks by cell: their keys, which were sent before, their places, and those that no cell may have."""

    def __init__(self, keys: Sequence[bytes], known: Mapping[bytes, str]) -> None:
        self.keys = keys
        self.known = known
        self.places: dict[CellClient, list[int]] = {}
        self.refused: dict[int, SendRejected] = {}

    def put(self, route: "CellClient | SendRejected", places: Sequence[int]) -> None:
        """Note where tasks go."""
        if isinstance(route, CellClient):
            self.places.setdefault(route, []).extend(places)
        else:
            self.refused.update(dict.fromkeys(places, route))

    @property
    def only(self) -> CellClient | None:
        """The cell that all of them go to, if there is one."""
        return next(iter(self.places)) if len(self.places) == 1 and not self.refused else None

    def merged(self, tasks: Sequence[Outgoing], answers: Sequence[Sequence[SendResult]]) -> list[SendResult]:
        """The results of all tasks in their order, from those of each cell."""
        outcomes: list[SendResult] = [Progress.WAITING] * len(tasks)
        for at, refusal in self.refused.items():
            outcomes[at] = refusal
        for places, results in zip(self.places.values(), answers, strict=True):
            for at, result in zip(places, results, strict=True):
                outcomes[at] = result
        return outcomes
