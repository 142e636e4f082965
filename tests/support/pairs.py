"""Two servers of Postgres, the second of which is a standby that streams from the first."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import pytest

from hyrex_broker.embedded import EmbeddedPostgres, server
from hyrex_broker.embedded.cluster import Cluster
from tests.support.eventually import eventually
from tests.support.postgres import connect, migrate_now, run_apart
from tests.support.roles import execute_now

SETTINGS: Final = {
    "wal_level": "replica",
    "max_wal_senders": "8",
    "wal_keep_size": "256MB",
    "wal_receiver_status_interval": "100ms",
}


@dataclass(slots=True)
class Pair:
    """A primary with Hyrex's schema, and its standby; both run when a test begins."""

    primary: EmbeddedPostgres
    standby: EmbeddedPostgres

    @property
    def url(self) -> str:
        """One URL for both, the primary first."""
        return both(self.primary, self.standby)

    def make_synchronous(self) -> None:
        """From now on a commit waits for the standby."""
        execute_now(
            self.primary.url, "alter system set synchronous_standby_names = '*'", "select pg_reload_conf()"
        )
        self.until_synchronous()

    def until_synchronous(self) -> None:
        """Wait until the primary knows of a standby for which commits wait."""
        look = "select sync_state = 'sync' from pg_stat_replication"
        eventually(lambda: value(self.primary.url, look))

    def until_caught_up(self) -> None:
        """Wait until the standby has what the primary has now."""
        look = "select replay_lsn >= pg_current_wal_lsn() from pg_stat_replication"
        eventually(lambda: value(self.primary.url, look))

    def cut(self) -> None:
        """From now on nothing that the primary does reaches the standby."""
        execute_now(self.standby.url, "alter system set primary_conninfo = ''", "select pg_reload_conf()")
        eventually(lambda: not value(self.primary.url, "select count(*) from pg_stat_replication"))

    def promote(self) -> None:
        """Make the standby a primary, as a failover does; the old primary goes on as it was."""
        execute_now(self.standby.url, "select pg_promote()")

    def cancel_commit(self) -> None:
        """Cancel a commit that waits for the standby: it is visible then, and on this server only."""
        cancel = (
            "select count(pg_cancel_backend(pid)) from pg_stat_activity"
            " where wait_event = 'SyncRep' and application_name like 'hyrex-broker%'"
        )
        eventually(lambda: value(self.primary.url, cancel))

    def commit_waits(self) -> bool:
        """Return True if some commit of a broker waits for the standby."""
        look = (
            "select count(*) > 0 from pg_stat_activity"
            " where wait_event = 'SyncRep' and application_name like 'hyrex-broker%'"
        )
        return bool(value(self.primary.url, look))


def both(first: EmbeddedPostgres, second: EmbeddedPostgres) -> str:
    """One URL for two servers, in this order."""
    one, two = urlsplit(first.url), urlsplit(second.url)
    return urlunsplit(one._replace(netloc=f"{one.netloc},{two.hostname}:{two.port}"))


@contextmanager
def postgres_pair() -> Iterator[Pair]:
    """A pair that ends with the block."""
    with pytest.MonkeyPatch.context() as patch, EmbeddedPostgres(durable=False) as primary:
        for name, setting in SETTINGS.items():
            patch.setitem(server.SETTINGS, name, setting)
        primary.restart()
        migrate_now(primary.url)
        standby = EmbeddedPostgres(_copied(primary), durable=False)
        says_ready = server._wait_ready

        def wait_ready(cluster: Cluster, supervisor: "subprocess.Popen[bytes]") -> bool:
            """A standby is never "ready" by its own word; one of the pair is when it answers."""
            ours = next((each for each in (primary, standby) if each._cluster is cluster), None)
            return (
                says_ready(cluster, supervisor) if ours is None else bool(eventually(lambda: _answers(ours)))
            )

        patch.setattr(server, "_wait_ready", wait_ready)
        standby.start()
        try:
            eventually(lambda: value(primary.url, "select count(*) from pg_stat_replication"))
            yield Pair(primary, standby)
        finally:
            standby.stop()
            assert standby._given_dir is not None
            shutil.rmtree(standby._given_dir, ignore_errors=True)


def _copied(primary: EmbeddedPostgres) -> Path:
    """A copy of a server's directory that follows it when it is started."""
    assert primary._cluster is not None
    origin = primary._cluster.directory
    copy = Path(f"{origin}-standby")
    url = primary.url
    primary._end()
    subprocess.run(["cp", "-a", str(origin), str(copy)], check=True, timeout=60)
    primary.start()
    assert primary.url == url
    signal = copy / "data" / "standby.signal"
    signal.touch()
    if (account := primary._account) is not None:
        account.own(signal)
    with (copy / "data" / "postgresql.auto.conf").open("a") as conf:
        conf.write(f"primary_conninfo = '{url}'\nwal_retrieve_retry_interval = '100ms'\n")
    return copy


def _answers(started: EmbeddedPostgres) -> bool:
    with socket.socket() as probe:
        if started._port is None or probe.connect_ex(("127.0.0.1", started._port)):
            return False
    try:
        execute_now(started.url, "select 1")
    except Exception:  # it is still starting
        return False
    return True


def value(url: str, sql: str) -> Any:
    """The first value of a statement on a connection of its own; None without a row."""
    return run_apart(_value(url, sql))


async def _value(url: str, sql: str) -> Any:
    connection = await connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()
