"""Under which user Postgres runs.

Postgres refuses to run as root, so root runs it under an unprivileged account, and everyone else under their
own. Also checks which files that account can reach.
"""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hyrex_broker.embedded.errors import EmbeddedPostgresError

UNPRIVILEGED: Final = "nobody"


@dataclass(frozen=True, slots=True)
class Account:
    """The user that runs Postgres, and whether root must switch to it."""

    uid: int
    gid: int
    dropped: bool

    def popen_options(self) -> dict[str, Any]:
        """Keyword arguments for subprocess that start a program under this account."""
        if not self.dropped:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": ()}

    def reaches(self, path: Path) -> bool:
        """Return True if the account can reach `path` and enter or read it."""
        if not self.dropped:
            return True
        absolute = path.resolve()
        return all(self._may(place) for place in (*reversed(absolute.parents), absolute) if place.exists())

    def own(self, path: Path) -> None:
        """Give `path` to the account."""
        if self.dropped:
            os.chown(path, self.uid, self.gid)

    def _may(self, place: Path) -> bool:
        status = place.stat()
        need = 0o5 if place.is_file() else 0o1
        if status.st_uid == self.uid:
            return bool((status.st_mode >> 6) & need == need)
        if status.st_gid == self.gid:
            return bool((status.st_mode >> 3) & need == need)
        return bool(status.st_mode & need == need)


def postgres_account() -> Account:
    """The account for Postgres: the caller's own, or an unprivileged one where the caller is root."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), dropped=False)
    try:
        entry = pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        raise EmbeddedPostgresError(
            f"Postgres does not run as root, and there is no user {UNPRIVILEGED!r} to run it as. "
            "Run as a normal user, or set HYREX_DATABASE_URL to a Postgres of your own."
        ) from None
    return Account(entry.pw_uid, entry.pw_gid, dropped=True)
