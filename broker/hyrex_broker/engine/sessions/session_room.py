"""How many sessions a broker serves at a time."""

from collections.abc import Collection, Hashable
from typing import Final

from hyrex_broker.domain.errors import QuotaExceeded
from hyrex_broker.engine.sessions.session import ServedSession

MOST_SESSIONS: Final = 10_000
"""Sessions with a stream here; each takes some ten kilobytes, and a heartbeat's work."""


def check_room(served: Collection[ServedSession], token: Hashable) -> None:
    """Raises QuotaExceeded for one session more than a broker begins to serve.

    The workers with one token (None: they are not told apart) have as many as they leave free, so that they
    do not keep the others out.
    """
    free = MOST_SESSIONS - len(served)
    if free <= 0:
        raise _full(f"this broker serves {MOST_SESSIONS} workers, and no more", MOST_SESSIONS)
    if token is None or len(served) < free:
        return
    own = sum(each.token == token for each in served)
    if own >= free:
        raise _full(f"of the workers with this token this broker serves {own}; the rest is for others", own)


def _full(found: str, limit: int) -> QuotaExceeded:
    return QuotaExceeded(f"{found}; connect to another broker", {"limit": str(limit), "bound": "broker"})
