"""Rows for tests, written straight into the tables, so that a test sets the exact state it needs."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self
from uuid import UUID

from hyrex_broker.domain.model import TaskId
from tests.support.postgres import connect

_newest = 0


def make_id(milliseconds: int | None = None) -> TaskId:
    """A UUIDv7 of now, above those made before it: several may be made in a millisecond, and lists are in the
    order of ids. Or one of another time (Unix milliseconds), which has no order within it."""
    global _newest
    if milliseconds is None:
        stamp = _newest = max(int(time.time() * 1000) << 12, _newest + 1)
    else:
        stamp = milliseconds << 12 | int.from_bytes(os.urandom(2)) >> 4
    random = int.from_bytes(os.urandom(8)) >> 2
    number = (stamp >> 12 << 80) | (7 << 76) | ((stamp & 0xFFF) << 64) | (2 << 62) | random
    return TaskId(str(UUID(int=number)))


class Seed:
    """Writes rows; every method commits."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._token = 0

    @classmethod
    @asynccontextmanager
    async def connected(cls, url: str) -> AsyncIterator[Self]:
        connection = await connect(url)
        try:
            yield cls(connection)
        finally:
            await connection.close()

    async def execute(self, sql: str, *args: object) -> Any:
        """The first value of any statement."""
        return await self._connection.fetchval(sql, *args)

    async def rows(self, sql: str, *args: object) -> list[Any]:
        """All rows of any statement."""
        return list(await self._connection.fetch(sql, *args))

    async def lane(self, queue: str = "default", name: str = "greet") -> int:
        await self.execute("insert into queue (namespace, name) values (0, $1) on conflict do nothing", queue)
        lane: int = await self.execute(
            "insert into lane (namespace, queue, name, limited) values (0, $1, $2, false)"
            " on conflict (namespace, queue, name, followed, bucket) do update set limited = lane.limited"
            " returning id",
            queue,
            name,
        )
        return lane

    async def task(
        self,
        task_id: TaskId | None = None,
        *,
        queue: str = "default",
        name: str = "greet",
        payload: bytes = b"{}",
        parent_id: TaskId | None = None,
        root_id: TaskId | None = None,
        headers: str | None = None,
        labels: str | None = None,
    ) -> TaskId:
        """A task without a live row; give it one with ready, delayed, lease or ended."""
        task_id = task_id or make_id()
        await self.execute(
            "insert into task (id, lane, rank, max_retries, digest, payload, parent_id, root_id, headers,"
            " labels) values ($1, $2, 5, 3, 0, $3, $4, $5, $6, $7)",
            task_id,
            await self.lane(queue, name),
            payload,
            parent_id,
            root_id,
            headers,
            labels,
        )
        return task_id

    async def ready(self, task_id: TaskId, run_number: int = 0, attempt_number: int = 0) -> TaskId:
        await self.execute(
            "insert into ready select id, lane, rank, now(), $2, $3, 0, 0, false from task where id = $1",
            task_id,
            run_number,
            attempt_number,
        )
        return task_id

    async def delayed(self, task_id: TaskId, run_number: int = 0, seconds: float = 60) -> TaskId:
        await self.execute(
            "insert into delayed select id, lane, rank, now() + $3 * interval '1 second', $2, $2, 0, 0, false"
            " from task where id = $1",
            task_id,
            run_number,
            seconds,
        )
        return task_id

    async def blocked(self, task_id: TaskId) -> TaskId:
        """One that waits for a seat of its key."""
        await self.execute(
            "insert into lane (namespace, queue, name, followed, limited) select 0, queue, name, true, false"
            " from lane where id = (select lane from task where id = $1) on conflict do nothing",
            task_id,
        )
        await self.execute(
            "insert into blocked (task_id, lane, rank, key, most, run_number, attempt_number, redeliveries,"
            " releases, alone) select t.id, f.id, t.rank, 7, 1, 0, 0, 0, 0, false from task t"
            " join lane l on l.id = t.lane"
            " join lane f on (f.queue, f.name) = (l.queue, l.name) and f.followed where t.id = $1",
            task_id,
        )
        return task_id

    async def lease(self, task_id: TaskId, session_id: int, run_number: int = 0) -> TaskId:
        self._token += 1
        await self.execute(
            "insert into lease (task_id, lane, rank, token, session_id, sequence, assigned_at, run_number,"
            " attempt_number, redeliveries, releases, alone)"
            " select id, lane, rank, $3, $2, 1, now(), $4, $4, 0, 0, false from task where id = $1",
            task_id,
            session_id,
            self._token,
            run_number,
        )
        return task_id

    async def unlease(self, task_id: TaskId) -> None:
        await self.execute("delete from lease where task_id = $1", task_id)

    async def run(
        self,
        task_id: TaskId,
        outcome: int = 2,
        run_number: int = 0,
        *,
        final: bool = True,
        result: bytes | None = None,
        session_id: int | None = None,
        error: str | None = None,
        place: str | None = None,
    ) -> TaskId:
        """A finished run."""
        await self.execute(
            "insert into task_run (task_id, run_number, attempt_number, outcome, final, token, session_id,"
            " started_at, result, error_type, error_message, traceback, error_place)"
            " values ($1, $2, $2, $3, $4, 7, $5, now(), $6, $7, $7, $7, $8)",
            task_id,
            run_number,
            outcome,
            final,
            session_id,
            result,
            error,
            place,
        )
        return task_id

    async def broker(self, name: str = "broker-1") -> int:
        broker: int = await self.execute(
            "insert into broker (name, address, version) values ($1, '127.0.0.1:1', '1') returning id", name
        )
        return broker

    async def session(
        self,
        *,
        owner: int | None = None,
        worker: str = "worker-1",
        patterns: tuple[str, ...] = ("*",),
        tasks: tuple[str, ...] = ("greet",),
        ttl_s: float = 60,
        draining: bool = False,
        ended: bool = False,
    ) -> int:
        session: int = await self.execute(
            "insert into worker_session (namespace, secret, owner, worker_name, host, pid, sdk,"
            " queue_patterns, task_names, capacity, draining, expires_at, ended_at)"
            " values (0, '', $1, $2, 'host', 1, 'test/1', $3, $4, 4, $5, now() + $6 * interval '1 second',"
            " case when $7::boolean then now() end) returning id",
            owner if owner is not None else await self.broker(),
            worker,
            list(patterns),
            list(tasks),
            draining,
            ttl_s,
            ended,
        )
        return session
