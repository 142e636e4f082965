"""What heartbeats say of how far runs are, checked."""

import math
from collections.abc import Iterator, Sequence
from typing import Final

from hyrex.v1 import worker_service_pb2 as wire
from hyrex_broker.domain import ids
from hyrex_broker.domain.errors import InvalidField, TooManyItems
from hyrex_broker.domain.model import Token
from hyrex_broker.domain.progress import TEXT_BYTES, Told
from hyrex_broker.engine.sessions.session import ServedSession
from hyrex_broker.service import fields

MOST_TOLD: Final = 1000


def progress_of(told: Sequence[wire.LeaseProgress], session: ServedSession) -> Iterator[Told]:
    """The words about leases of this session; others are passed over: they ended meanwhile.

    Raises InvalidField, TooManyItems.
    """
    if len(told) > MOST_TOLD:
        raise TooManyItems(len(told), MOST_TOLD)
    for each in told:
        token = Token(each.token)
        lease = session.leases.get(token)
        if lease is None:
            continue
        progress = each.progress
        total = progress.total if progress.HasField("total") else None
        text = fields.short_text(progress.text, "progress.text", TEXT_BYTES) or ""
        yield Told(
            ids.task_id(lease[0]), token, _amount(progress.done, "done"),
            None if total is None else _amount(total, "total"), text,
        )  # fmt: skip


def _amount(value: float, name: str) -> float:
    if not math.isfinite(value) or value < 0:
        raise InvalidField(f"progress.{name}", str(value), "must be finite and not negative")
    return value
