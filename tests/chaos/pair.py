"""A primary and its standby for a storm: who is who changes, and who was replaced is made a standby anew."""

import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from hyrex_broker.embedded import EmbeddedPostgres
from hyrex_broker.embedded.cluster import environment
from tests.chaos.cluster import server_of
from tests.support.eventually import eventually
from tests.support.pairs import Pair, postgres_pair, value
from tests.support.roles import execute_now
from tests.support.trees import signal_all, tree

COPIER: Final = "pg_basebackup"
_COPIED_WITHIN_S: Final = 120
_SYNCHRONOUS: Final = "select sync_state = 'sync' and flush_lsn >= '{}' from pg_stat_replication"


class ChangingPair:
    """Two servers. Not for several threads at once, but for `url` and `servers`."""

    def __init__(self, pair: Pair, *, synchronous: bool) -> None:
        self.primary, self.standby = pair.primary, pair.standby
        self.synchronous = synchronous
        self.servers: Sequence[tuple[str, int]] = [server_of(pair.primary.url), server_of(pair.standby.url)]
        if synchronous:
            self.make_synchronous()

    @property
    def url(self) -> str:
        """The server that accepts writes now."""
        return self.primary.url

    def number_of(self, server: EmbeddedPostgres) -> int:
        """Its place in `servers`."""
        return self.servers.index(server_of(server.url))

    def kill(self) -> None:
        """SIGKILL every process of the primary."""
        kill(self.primary)

    def start(self) -> None:
        """Start the primary again."""
        self.primary.start()

    def restart(self) -> None:
        """Shut the primary down cleanly, and start it again."""
        self.primary.restart()

    def stop(self) -> None:
        """Its servers end with the block that made them."""

    def promote(self) -> EmbeddedPostgres:
        """Make the standby the primary, and return who was: it may go on as it was."""
        execute_now(self.standby.url, "select pg_promote()")
        self.primary, self.standby = self.standby, self.primary
        return self.standby

    def make_asynchronous(self) -> None:
        """From now on no commit waits for the standby."""
        self._set_standbys("")

    def make_synchronous(self) -> None:
        """From now on a commit waits for the standby; returns when it has all that was committed before."""
        self._set_standbys("*")
        # Commits wait when the checkpointer has read the setting. It has before it begins a checkpoint which
        # was asked for when the postmaster had read it, as new connections show.
        eventually(lambda: value(self.url, "show synchronous_standby_names") == "*")
        execute_now(self.url, "set synchronous_commit = local", "checkpoint")
        written = value(self.url, "select pg_current_wal_lsn()::text")
        eventually(lambda: value(self.url, _SYNCHRONOUS.format(written)))

    def _set_standbys(self, names: str) -> None:
        execute_now(
            self.url, f"alter system set synchronous_standby_names = '{names}'", "select pg_reload_conf()"
        )

    def cut_standby(self) -> None:
        """From now on nothing that the primary does reaches the standby."""
        Pair(self.primary, self.standby).cut()

    def rebuild(self) -> None:
        """Make whoever is the standby by now one, of a copy of the primary."""
        kill(self.standby)
        cluster, account = self.standby._cluster, self.standby._account
        assert cluster is not None
        shutil.rmtree(cluster.data)
        copier = [str(copier_of(self.standby)), "-D", str(cluster.data), "-d", self.url]
        subprocess.run(
            [*copier, "--checkpoint=fast", "--wal-method=stream", "--no-sync"],
            check=True,
            timeout=_COPIED_WITHIN_S,
            capture_output=True,
            cwd="/",
            env=environment(),
            **account.popen_options(),
        )
        sign = cluster.data / "standby.signal"
        sign.touch()
        account.own(sign)
        with (cluster.data / "postgresql.auto.conf").open("a") as conf:
            conf.write(f"primary_conninfo = '{self.url}'\nsynchronous_standby_names = ''\n")
            conf.write("wal_retrieve_retry_interval = '100ms'\n")
        self.standby.start()
        eventually(
            lambda: value(self.url, "select count(*) from pg_stat_replication where flush_lsn > '0/0'")
        )


def kill(server: EmbeddedPostgres) -> None:
    """SIGKILL every process of a server, stopped ones too."""
    if server.running:
        # The postmaster first: it would start others for those that die.
        signal_all(tree(server.pid), signal.SIGKILL)
        server._end()


def signal_server(server: EmbeddedPostgres, number: int) -> None:
    """Signal every process of a server."""
    signal_all(tree(server.pid), number)


def copier_of(server: EmbeddedPostgres) -> Path:
    """The program that copies a running server, which not every set of programs has."""
    return server._binaries.folder / COPIER


@contextmanager
def changing_pair(*, synchronous: bool) -> Iterator[ChangingPair]:
    """A pair that ends with the block."""
    with postgres_pair() as pair:
        yield ChangingPair(pair, synchronous=synchronous)
