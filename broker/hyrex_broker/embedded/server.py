"""The embedded server: start, stop, kill, start again, with the same data."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from hyrex_broker.embedded import supervisor
from hyrex_broker.embedded.account import Account, postgres_account
from hyrex_broker.embedded.binaries import find_binaries
from hyrex_broker.embedded.cluster import HOST, Cluster, environment, url_of
from hyrex_broker.embedded.errors import EmbeddedPostgresError

READY_WITHIN_S: Final = 60.0
STOP_WITHIN_S: Final = 20.0
PORT_TRIES: Final = 5
SETTINGS: Final = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "log_line_prefix": "%m [%p] ",
    "timezone": "UTC",
}
NOT_DURABLE: Final = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class EmbeddedPostgres:
    """A private Postgres on loopback with a generated password, which ends when its starter ends.

    data_dir: kept over restarts; None means a temporary one, removed by stop().
    port: None picks a free one, and keeps it for later starts of this object.
    durable: whether an acknowledged commit survives a kill of the machine; tests may give that up.
    Not for several threads at once.
    """

    def __init__(
        self, data_dir: Path | None = None, *, port: int | None = None, durable: bool = True
    ) -> None:
        self._account = postgres_account()
        self._binaries = find_binaries(self._account)
        self._given_dir = data_dir
        self._fixed_port = port
        self._port = port
        self._durable = durable
        self._started_once = False
        self._cluster: Cluster | None = None
        self._supervisor: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def version(self) -> str:
        """Version of the programs in use, for instance "18.4"."""
        return self._binaries.version

    @property
    def url(self) -> str:
        """postgresql:// with user, password, address and database."""
        if self._cluster is None or self._port is None:
            raise EmbeddedPostgresError("the embedded Postgres has no URL before start()")
        return url_of(self._cluster.password, self._port)

    @property
    def running(self) -> bool:
        """Return True if the server's process lives."""
        return self._supervisor is not None and self._supervisor.poll() is None

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        state = self._cluster.state() if self._cluster is not None and self.running else None
        if state is None:
            raise EmbeddedPostgresError("the embedded Postgres does not run")
        return state[0]

    def start(self) -> None:
        """Start the server and return once it accepts connections; nothing happens where it runs.

        Raises: EmbeddedPostgresError (no programs, directory or port in use, server does not come up).
        """
        if self.running:
            return
        self._end()
        if self._cluster is None:
            self._cluster = Cluster(self._given_dir or _temporary(self._account), self._account)
        lock = self._cluster.lock()
        try:
            self._cluster.prepare(self._binaries)
            self._start_on_some_port(self._cluster, lock)
        except EmbeddedPostgresError:
            if self._given_dir is None and not self._started_once:
                self._cluster.remove()
            raise
        finally:
            os.close(lock)
        self._started_once = True

    def stop(self) -> None:
        """Shut down cleanly; open sessions are cut. Removes a temporary data directory."""
        self._end()
        if self._given_dir is None and self._cluster is not None:
            self._cluster.remove()
            self._cluster = None

    def kill(self) -> None:
        """SIGKILL the postmaster, as a crash would. start() then recovers the data."""
        os.kill(self.pid, signal.SIGKILL)
        self._end()

    def restart(self) -> None:
        """Shut down cleanly if it runs, then start on the same port with the same data."""
        self._end()
        self.start()

    def _end(self) -> None:
        if self._supervisor is not None:
            _say_stop(self._supervisor)
            self._supervisor = None

    def _start_on_some_port(self, cluster: Cluster, lock: int) -> None:
        fixed = self._port is not None
        for _ in range(1 if fixed else PORT_TRIES):
            self._port = self._port or _free_port()
            said_before = _size(cluster.log)
            self._supervisor = self._launch(cluster, self._port, lock)
            if _wait_ready(cluster, self._supervisor):
                return
            self._end()
            said = _from(cluster.log, said_before)
            if "could not bind" not in said:
                raise EmbeddedPostgresError(f"Postgres did not start; see {cluster.log}:\n{said}")
            if fixed:
                raise EmbeddedPostgresError(f"port {self._port} is in use; free it or choose another one.")
            self._port = None
        raise EmbeddedPostgresError(f"found no free port on {HOST} in {PORT_TRIES} tries")

    def _launch(self, cluster: Cluster, port: int, lock: int) -> subprocess.Popen[bytes]:
        order = {
            "command": [str(self._binaries.postgres), "-D", str(cluster.data), *self._settings(port)],
            "account": self._account.popen_options(),
            "environment": environment(),
            "log": str(cluster.log),
            "lock_fd": lock,
            "parent": os.getpid(),
            "remove": str(cluster.directory) if self._given_dir is None else None,
        }
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", supervisor.__file__, json.dumps(order)],
            stdin=subprocess.PIPE,
            bufsize=0,
            stdout=subprocess.DEVNULL,
            pass_fds=[lock],
            start_new_session=True,  # Ctrl-C is for the application, which then stops Postgres last
        )
        cluster.sign(lock, process.pid)
        return process

    def _settings(self, port: int) -> list[str]:
        chosen = SETTINGS | ({} if self._durable else NOT_DURABLE) | {"port": str(port)}
        return [part for name, value in chosen.items() for part in ("-c", f"{name}={value}")]


def _temporary(account: Account) -> Path:
    """A new private directory, in a place that the account can reach where TMPDIR is not."""
    bases = [tempfile.gettempdir(), "/tmp", "/var/tmp"]
    base = next((base for base in bases if account.reaches(Path(base))), None)
    return Path(tempfile.mkdtemp(prefix="hyrex-postgres-", dir=base))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_ready(cluster: Cluster, process: subprocess.Popen[bytes]) -> bool:
    """Wait until connections are accepted (True) or the server has ended (False)."""
    deadline = time.monotonic() + READY_WITHIN_S
    while process.poll() is None:
        state = cluster.state()
        if state is not None and state[1]:
            return True
        if time.monotonic() > deadline:
            _say_stop(process)
            raise EmbeddedPostgresError(
                f"Postgres was not ready in {READY_WITHIN_S:.0f} s; see {cluster.log}"
            )
        time.sleep(0.005)
    return False


def _say_stop(process: subprocess.Popen[bytes]) -> None:
    """Have the supervisor end the server, and wait; if it hangs, kill it, and with it the server."""
    assert process.stdin is not None
    with process.stdin, contextlib.suppress(BrokenPipeError):
        process.stdin.write(b"stop\n")
    try:
        process.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _from(path: Path, offset: int) -> str:
    if not path.exists():
        return ""
    return path.read_bytes()[offset:].decode("utf-8", "replace").strip()
