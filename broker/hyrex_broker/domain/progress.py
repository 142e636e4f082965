"""How far a run is, by its own word."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from hyrex_broker.domain.model import TaskId, Token

TEXT_BYTES: Final = 1024


@dataclass(frozen=True, slots=True)
class Told:
    """What the run of a lease said last. `total` is None where it does not know."""

    task_id: TaskId
    token: Token
    done: float
    total: float | None
    text: str


@dataclass(frozen=True, slots=True)
class ProgressView:
    """The same as it is stored, with the time of the database."""

    done: float
    total: float | None
    text: str
    updated_at: datetime
