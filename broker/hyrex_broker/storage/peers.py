"""Workers and brokers for operators."""

from typing import Any, Final

from hyrex_broker.domain.model import BrokerId, SessionId
from hyrex_broker.domain.views import BrokerView, SessionView
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.statements import load

_SQL: Final = load("peers")
NEWEST: Final = SessionId(2**63 - 1)


class PeerStore:
    """Statements of `peers.sql`. Each method raises StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def sessions(
        self, before: SessionId, size: int, *, ended: bool, names: bool = True
    ) -> list[SessionView]:
        """Up to `size` sessions with ids below `before`, newest first; ended ones and names of tasks if
        wanted."""
        rows = await self._database.fetch(_SQL["sessions"], before, size, ended, names, read=True)
        return [_session(row) for row in rows]

    async def drain(self, session_id: SessionId) -> bool:
        """Ask a session to finish and leave; false where none lives by that id."""
        return await self._database.fetchrow(_SQL["drain_session"], session_id) is not None

    async def brokers(self) -> list[BrokerView]:
        """Brokers seen in the last minute, by name."""
        rows = await self._database.fetch(_SQL["brokers"], read=True)
        return [
            BrokerView(
                broker_id=BrokerId(row["id"]),
                name=row["name"],
                address=row["address"],
                version=row["version"],
                started_at=row["started_at"],
                seen_at=row["seen_at"],
                workers=row["workers"],
            )
            for row in rows
        ]


def _session(row: Any) -> SessionView:
    return SessionView(
        session_id=SessionId(row["id"]),
        worker_name=row["worker_name"],
        host=row["host"],
        pid=row["pid"],
        sdk=row["sdk"],
        queue_patterns=tuple(row["queue_patterns"]),
        task_names=tuple(row["task_names"]),
        capacity=row["capacity"],
        slots=row["slots"],
        leases=row["leases"],
        broker=row["broker"] or "",
        started_at=row["started_at"],
        expires_at=row["expires_at"],
        draining=row["draining"],
        ended_at=row["ended_at"],
        end_reason=row["end_reason"],
    )
