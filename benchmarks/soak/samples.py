"""One look at a running soak: what its processes hold, and what its database does.

A series is named after what it is of ("broker-0 rss"); a reading carries the id of the process that it is of,
so that a restarted one begins a new stretch.
"""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import psutil

from benchmarks.usage import CHILD_MODULE

MB: Final = 1e6
_DATABASE: Final = """
with owned as (
  select c.oid, c.relname, coalesce(i.inhparent::regclass::text, c.relname) as of
  from pg_class c left join pg_inherits i on i.inhrelid = c.oid
  where c.relnamespace = 'hyrex'::regnamespace and c.relkind = 'r'
), live as (select oid from owned where relname in ('ready', 'delayed', 'lease', 'worker_session'))
select (select sum(n_dead_tup) from pg_stat_user_tables where relid in (select oid from live)) as live_dead,
       (select sum(n_dead_tup) from pg_stat_user_tables where relid not in (select oid from live))
         as other_dead,
       (select sum(pg_total_relation_size(oid)) from live) as live_bytes,
       (select sum(pg_total_relation_size(oid)) from owned where oid not in (select oid from live))
         as kept_bytes,
       (select sum(n_tup_ins) from pg_stat_user_tables s join owned o on o.oid = s.relid where o.of = 'task')
         as tasks,
       pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') as wal_bytes,
       (select count(*) from ready) as ready, (select count(*) from delayed) as delayed,
       (select count(*) from lease) as running
"""


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of one series. `of`: the process, 0 where the series is of none."""

    value: float
    of: int = 0


Sample = dict[str, Reading]


def process_readings(tops: Mapping[str, int]) -> Sample:
    """Memory, files and threads of these processes and all below them, by what they are."""
    found: Sample = {}
    for name, pid in tops.items():
        for part, process in _parts(name, pid):
            with contextlib.suppress(psutil.Error):
                found |= _readings(part, process)
    return found


def _parts(name: str, pid: int) -> Iterator[tuple[str, psutil.Process]]:
    """A process alone under its name; a worker's as launcher, stream and children."""
    with contextlib.suppress(psutil.Error):
        top = psutil.Process(pid)
        if not name.startswith("worker"):
            yield name, top
            return
        yield f"{name} launcher", top
        number = 0
        for process in sorted(top.children(recursive=True), key=lambda each: each.pid):
            is_child = any(CHILD_MODULE in word for word in process.cmdline())
            yield f"{name} child-{number}" if is_child else f"{name} stream", process
            number += is_child


def _readings(part: str, process: psutil.Process) -> Sample:
    with process.oneshot():
        return {
            f"{part} rss": Reading(process.memory_info().rss / MB, process.pid),
            f"{part} fds": Reading(process.num_fds(), process.pid),
            f"{part} threads": Reading(process.num_threads(), process.pid),
        }


def postgres_readings(postmaster: int, restarts: int) -> Sample:
    """Memory that Postgres' processes do not share, and how many there are. After each restart of a broker
    these are others."""
    private, count = 0.0, 0
    with contextlib.suppress(psutil.Error):
        top = psutil.Process(postmaster)
        for process in [top, *top.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                memory = process.memory_info()
                private += memory.rss - getattr(memory, "shared", 0)
                count += 1
    return {
        "postgres private": Reading(private / MB, restarts),
        "postgres processes": Reading(count, restarts),
    }


async def database_readings(connection: Any) -> Sample:
    """Dead rows, sizes, the position of the write-ahead log, and how much waits."""
    row: asyncpg.Record = await connection.fetchrow(_DATABASE)
    known = {name: float(value or 0) for name, value in row.items()}
    return {
        "dead rows live tables": Reading(known["live_dead"]),
        "dead rows other tables": Reading(known["other_dead"]),
        "live tables": Reading(known["live_bytes"] / MB),
        "kept tables": Reading(known["kept_bytes"] / MB),
        "wal": Reading(known["wal_bytes"] / MB),
        "tasks": Reading(known["tasks"]),
        **{name: Reading(known[name]) for name in ("ready", "delayed", "running")},
    }


class Machine:
    """How busy the whole machine is: what else runs on it explains latencies."""

    def __init__(self) -> None:
        psutil.cpu_percent()

    def readings(self) -> Sample:
        """The share of all cores since the last look, in percent, and the load."""
        return {"machine cpu": Reading(psutil.cpu_percent()), "machine load": Reading(os.getloadavg()[0])}


def now_s() -> float:
    """The clock of all samples."""
    return time.monotonic()
