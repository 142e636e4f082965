"""The state that a broker prints at SIGUSR1: the sizes of its parts, and its sessions."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from hyrex_broker.domain.model import SessionId
from hyrex_broker.engine.sessions.session import ServedSession

_MOST_SESSIONS: Final = 200


def lines(
    parts: Mapping[str, Callable[[], Mapping[str, int]]], sessions: Mapping[SessionId, ServedSession]
) -> Iterator[str]:
    """The sizes of each part by its name, then the sessions that this broker serves."""
    for name, sizes in parts.items():
        yield f"{name}: {_written(sizes()) or 'nothing'}"
    yield f"sessions: {len(sessions)}"
    for session in list(sessions.values())[:_MOST_SESSIONS]:
        yield from _session_lines(session)
    if len(sessions) > _MOST_SESSIONS:
        yield f"  ... and {len(sessions) - _MOST_SESSIONS} more sessions"


def _session_lines(session: ServedSession) -> Iterator[str]:
    marks = [name for name in ("draining", "self_draining") if getattr(session, name)]
    yield (
        f"  session {session.session_id} generation {session.generation}: leases {len(session.leases)}, "
        + ", ".join([f"sent through {session.sequence}, received through {session.received_through}", *marks])
    )
    for pool, most in session.capacity.items():
        held, reserved = session.held.get(pool, 0), session.reserved.get(pool, 0)
        yield f"    pool {pool}: capacity {most}, held {held}, reserved {reserved}"
    yield f"    stream: {_written(session.link.sizes())}, statements in flight {len(session.unsent)}"


def _written(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sizes.items())
