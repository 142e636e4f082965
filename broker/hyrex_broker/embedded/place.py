"""Finds a place for a data directory that the account of Postgres can reach.

The unprivileged user that runs Postgres for root reaches nothing below /root. There the directory becomes a
link to one under /var/lib/hyrex, which is removed when the link is gone.
"""

import fcntl
import hashlib
import os
import shutil
from pathlib import Path
from typing import Final

from hyrex_broker.embedded.account import Account
from hyrex_broker.embedded.errors import EmbeddedPostgresError

STAND_INS: Final = Path("/var/lib/hyrex")


def reachable_home(directory: Path, account: Account) -> Path:
    """Make the directory where there is none; return a place of it that the account can reach."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    if directory.is_symlink() or directory.exists():
        home = directory.resolve()
    else:
        home = directory if account.reaches(directory.parent) else _stand_in(directory)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    account.own(home)
    if not account.reaches(home):
        raise EmbeddedPostgresError(
            f"{home} cannot be reached by the unprivileged user that runs Postgres for root. "
            "Choose another directory, or run as a normal user."
        )
    return home


def _stand_in(directory: Path) -> Path:
    STAND_INS.mkdir(mode=0o711, parents=True, exist_ok=True)
    home = STAND_INS / hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    for origin in STAND_INS.glob("*.origin"):
        _remove_if_unlinked(origin)
    shutil.rmtree(home, ignore_errors=True)  # left behind if its link was deleted by hand
    home.with_suffix(".origin").write_text(str(directory), encoding="utf-8")
    directory.symlink_to(home)
    return home


def _remove_if_unlinked(origin: Path) -> None:
    """Remove a directory to which no link leads any more, unless a server still uses it."""
    home = origin.with_suffix("")
    link = Path(origin.read_text(encoding="utf-8"))
    if link.is_symlink() and link.resolve() == home:
        return
    if (home / "lock").exists():
        with open(home / "lock", "rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
    shutil.rmtree(home, ignore_errors=True)
    origin.unlink(missing_ok=True)
