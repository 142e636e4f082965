"""The data directory: its place, its lock, its password, and Postgres's own files below it.

DIR/lock           held by every process of a running server, so that none is overlooked
DIR/password       of the superuser, for its owner only
DIR/postgres.log   what the server said
DIR/data/          what initdb made
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import subprocess
import time
from pathlib import Path
from typing import Final

from hyrex_broker.embedded.account import Account
from hyrex_broker.embedded.binaries import Binaries
from hyrex_broker.embedded.errors import EmbeddedPostgresError
from hyrex_broker.embedded.place import reachable_home

SUPERUSER: Final = "hyrex"
HOST: Final = "127.0.0.1"
LOG_LIMIT_BYTES: Final = 5_000_000
LOCK_WAIT_S: Final = 15.0
WANTED_WAIT_S: Final = 1.0


class Cluster:
    """One data directory, made on demand, used by one server at a time."""

    def __init__(self, directory: Path, account: Account) -> None:
        self._account = account
        self.directory = reachable_home(directory.absolute(), account)
        self.data = self.directory / "data"
        self.log = self.directory / "postgres.log"

    @property
    def password(self) -> str:
        """The superuser's password, made on first use."""
        path = self.directory / "password"
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(24))
            self._account.own(path)
        return path.read_text(encoding="ascii")

    def lock(self) -> int:
        """Take the directory for one server; return the descriptor that holds it.

        Every process of the server inherits the descriptor, so once the lock is free none of them is left.
        Waits a moment for the processes of a killed server to end. Raises: EmbeddedPostgresError.
        """
        path = self.directory / "lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        began = time.monotonic()
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            except BlockingIOError:
                holders = path.read_text(encoding="ascii").split()
            if time.monotonic() - began > (WANTED_WAIT_S if all(map(_alive, holders)) else LOCK_WAIT_S):
                os.close(descriptor)
                starter = holders[-1] if holders else "unknown"
                raise EmbeddedPostgresError(
                    f"{self.directory} is in use by another server, started by process {starter}. "
                    "Stop that one, or use another directory."
                )
            time.sleep(0.02)

    @staticmethod
    def sign(lock: int, supervisor: int) -> None:
        """Write into the lock's file who has it: the supervisor, and the process that started it."""
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{supervisor} {os.getpid()}".encode("ascii"), 0)

    def prepare(self, binaries: Binaries) -> None:
        """Make the data directory if there is none; remove what a killed server left. Needs the lock."""
        if not (self.data / "PG_VERSION").exists():
            self._initialise(binaries)
        made_by = (self.data / "PG_VERSION").read_text(encoding="ascii").strip()
        if made_by != str(binaries.major):
            raise EmbeddedPostgresError(
                f"{self.data} was made by Postgres {made_by}, but {binaries.folder} has {binaries.version}. "
                f"Point HYREX_PG_BIN to Postgres {made_by}, or move the directory away to start afresh."
            )
        self._clear_stale_pid()
        if self.log.exists() and self.log.stat().st_size > LOG_LIMIT_BYTES:
            self.log.unlink()

    def state(self) -> tuple[int, bool] | None:
        """The postmaster's process id and whether it accepts connections; None while neither is known."""
        with contextlib.suppress(OSError, ValueError):
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
            if lines:
                return int(lines[0]), len(lines) > 7 and lines[7].strip() == "ready"
        return None

    def remove(self) -> None:
        """Delete the directory and all in it."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _initialise(self, binaries: Binaries) -> None:
        """Run initdb in a temporary directory and rename it, so that a half-made one is never used."""
        scratch = self.directory / "data.new"
        shutil.rmtree(scratch, ignore_errors=True)
        _ = self.password
        command = [str(binaries.initdb), "-D", str(scratch), "-U", SUPERUSER, "--auth=scram-sha-256"]
        command += [f"--pwfile={self.directory / 'password'}", "--encoding=UTF8", "--locale=C", "--no-sync"]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env=environment(),
            start_new_session=True,  # a terminal's Ctrl-C must not stop it half-way; the caller ends later
            **self._account.popen_options(),
        )
        if done.returncode != 0:
            raise EmbeddedPostgresError(f"initdb failed in {self.directory}: {done.stderr.strip()}")
        scratch.rename(self.data)

    def _clear_stale_pid(self) -> None:
        """Remove a dead server's pid file: in a container, another process may have that id by now."""
        found = self.state()
        if found is None:
            return
        if _works_in(found[0], self.data):
            raise EmbeddedPostgresError(f"{self.data} is in use by a Postgres with process id {found[0]}.")
        (self.data / "postmaster.pid").unlink()


def url_of(password: str, port: int) -> str:
    """postgresql:// with user, password, address and database."""
    return f"postgresql://{SUPERUSER}:{password}@{HOST}:{port}/postgres"


def environment() -> dict[str, str]:
    """The environment for Postgres's programs: few of the caller's variables."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"}


def _alive(pid_text: str) -> bool:
    try:
        os.kill(int(pid_text), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _works_in(pid: int, data: Path) -> bool:
    """Return True if the process is known to serve this directory; without /proc Postgres checks."""
    try:
        return Path(f"/proc/{pid}/cwd").resolve(strict=True) == data.resolve()
    except OSError:
        return False
