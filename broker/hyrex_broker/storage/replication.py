"""What a commit needs where replication is synchronous, so that no failover takes back what was answered.

A commit that waits for a standby is visible to nobody. If that wait is interrupted (its statement is
cancelled, its backend is terminated, the server restarts), the commit is visible all the same, and may be on
this server only. Of the first of these Postgres warns, and `Session` notes the warning: such a commit is no
success. Whoever later concludes something from rows that he finds must `confirm` before he answers: a commit
of his own reaches the standby after all that it could see.
"""

from typing import Any, Final

import asyncpg

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.storage.statements import load

CONFIRM: Final = load("replication")["confirm"]
_WAITS_FOR_STANDBYS: Final = "SyncRepWaitForLSN"
"""The function in Postgres that warns; the text depends on lc_messages, and it has no SQLSTATE of its own."""


class Session(asyncpg.Connection):
    """A connection that notes Postgres' warning that a commit may not have been replicated."""

    __slots__ = ("is_on_this_server_only",)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.is_on_this_server_only = False

    def _process_log_message(self, fields: dict[str, str], last_query: str) -> None:
        # Not a log listener: asyncpg warns of one that is still there when a connection returns to its pool.
        if fields.get("R") == _WAITS_FOR_STANDBYS:
            self.is_on_this_server_only = True
        super()._process_log_message(fields, last_query)  # type: ignore[misc]  # not in the stubs


def require_replicated(connection: Any) -> None:
    """Raise StorageUnavailable if what was committed over this connection just now may not be replicated."""
    alone = getattr(connection, "is_on_this_server_only", None)
    if alone is None:  # a pool's proxy, whose connection was closed meanwhile: nobody can tell any more
        raise StorageUnavailable("the connection was closed before its answer could be trusted")
    if alone:
        # It serves no more: the attribute cannot be set through a pool's proxy, and a new one costs little.
        connection.terminate()
        raise StorageUnavailable(
            "Postgres gave up waiting for its synchronous standby; what was stored is repeated until the"
            " standby has it"
        )
