"""The URL of an embedded server that another process has started."""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Final

from hyrex_broker.embedded.cluster import url_of
from hyrex_broker.embedded.errors import EmbeddedPostgresError

PORT_LINE: Final = 3  # of postmaster.pid, as Postgres writes it


def running_url(directory: Path) -> str:
    """The URL of the server that runs on a data directory. Starts, makes and waits for nothing.

    Raises: EmbeddedPostgresError where none runs there, or its password is another user's.
    """
    if not _is_locked(directory):
        raise EmbeddedPostgresError(f"no server runs in {directory}")
    try:
        password = (directory / "password").read_text(encoding="ascii")
        lines = (directory / "data" / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        return url_of(password, int(lines[PORT_LINE]))
    except PermissionError as error:
        raise EmbeddedPostgresError(f"{error.filename} belongs to another user") from None
    except (OSError, ValueError, IndexError):
        raise EmbeddedPostgresError(f"the server in {directory} has not begun, or ends") from None


def _is_locked(directory: Path) -> bool:
    """Return True if a process of a server holds the directory; a pid file alone may be a dead server's."""
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(directory / "lock", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
    return False
