"""The hot path's statements over one connection, with arguments as the broker would make them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

import asyncpg

from hyrex_broker.domain.ids import lowest_id
from hyrex_broker.storage import columns
from hyrex_broker.storage.pool import HOT_SETTINGS
from hyrex_broker.storage.statements import load

PAYLOAD: Final = (
    b'{"order":{"order_id":1,"customer":"customer-0123456789@example.com","amount":99.95,"express":true}}'
)
SUBMIT: Final = load("submit")["submit"]
ASSIGN: Final = load("assign")["assign"]
REPORT: Final = load("report")["report_completed"]
RANK: Final = 5
LAG: Final = timedelta(seconds=3)
ZERO: Final = datetime(1970, 1, 1, tzinfo=UTC)
INLINE_BYTES: Final = 64 * 1024
RECENT_S: Final = 2 * 24 * 3600
SLACK_MS: Final = 15_000


@dataclass(slots=True)
class Lane:
    """What an assign needs to know: a lane, a session of a broker, and how far the lane was read."""

    lane: int
    owner: int
    session: int
    token: int = 0
    mark: datetime = ZERO

    @classmethod
    async def make(cls, connection: Any) -> Self:
        """A new lane and a session that outlives the measurement."""
        await connection.execute(
            "insert into queue (namespace, name) values (0, 'bench') on conflict do nothing"
        )
        lane = await connection.fetchval(
            "insert into lane (namespace, queue, name, limited) values (0, 'bench', 'handle', false)"
            " on conflict (namespace, queue, name, followed, bucket) do update set limited = false"
            " returning id"
        )
        owner = await connection.fetchval(
            "insert into broker (name, address, version) values ('bench', '', '') returning id"
        )
        session = await connection.fetchval(
            "insert into worker_session (namespace, secret, owner, worker_name, host, pid, sdk,"
            " queue_patterns, task_names, capacity, expires_at)"
            " values (0, '', $1, 'bench', '', 1, '', '{bench}', '{handle}', 1, now() + interval '1 day')"
            " returning id",
            owner,
        )
        return cls(lane, owner, session)


async def connect(url: str) -> Any:
    """A connection as the broker's hot ones."""
    settings = HOT_SETTINGS | {"statement_timeout": "0", "application_name": "bench"}
    return await asyncpg.connect(url, server_settings=settings, max_cached_statement_lifetime=0)


async def submit(connection: Any, lane: Lane, ids: Sequence[str]) -> None:
    """Store tasks as ready. `ids` in order."""
    count = len(ids)
    await connection.fetch(
        SUBMIT, columns.ids(ids), [lane.lane], [RANK], [0], [], [], columns.integers([1] * count),
        [PAYLOAD] * count, [], [], [], [], "{}", "{}", [], [],
        [lane.lane],
    )  # fmt: skip


async def assign(connection: Any, lane: Lane, quota: int) -> list[Any]:
    """Lease up to `quota` tasks; rows that hold what a worker is sent."""
    tokens = columns.integers(range(lane.token + 1, lane.token + quota + 1))
    lane.token += quota
    rows = await connection.fetch(
        ASSIGN, [lane.session], [0], lane.owner, [lane.lane], [quota], [0], [1], [1], [RANK], [lane.mark],
        columns.integers([1]), [lane.token], tokens, False, INLINE_BYTES, SLACK_MS,
        lowest_id(time.time() - RECENT_S),
    )  # fmt: skip
    if rows[0]["task_id"] is None:
        return []
    lane.mark = min(max(row["arrival"] for row in rows), rows[0]["taken_at"] - LAG)
    return list(rows)


async def report(connection: Any, rows: Sequence[Any]) -> None:
    """Record all of them completed; they are of one session."""
    session = rows[0]["session_id"]
    ordered = sorted((row["task_id"], row["token"]) for row in rows)
    count = len(ordered)
    groups = await connection.fetch(
        REPORT, columns.ids([task for task, _ in ordered]), columns.integers([token for _, token in ordered]),
        columns.integers([1] * count), [b"1"] * count, [], [session],
    )  # fmt: skip
    # Null stands for all of them.
    ended = sum(count if group["places"] is None else len(group["places"]) for group in groups)
    if ended != count:
        raise RuntimeError(f"{count - ended} reports of {count} matched no lease")
