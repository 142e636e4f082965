"""The database of `hyrex dev`: one that its command line names, or a private one in the data folder.

HYREX_DATABASE_URL alone never counts: in a shell that is set up for production it would have `hyrex dev`
migrate that database and run its tasks with code that is being written.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from hyrex.cli.errors import CommandError

if TYPE_CHECKING:
    from hyrex_broker.embedded import EmbeddedPostgres

PLACE: Final = "postgres"


def url_of_running(folder: Path) -> str:
    """The URL of the private database of a `hyrex dev` that runs with this data folder.

    Raises: CommandError where none does.
    """
    from hyrex_broker.embedded import EmbeddedPostgresError, running_url

    try:
        return running_url(folder / PLACE)
    except EmbeddedPostgresError as error:
        raise CommandError(
            f"{error}: start `hyrex dev` without --database-url, or name its folder with --data-dir"
        ) from None


class DevDatabase:
    """Started before the broker, stopped after it."""

    def __init__(self, folder: Path, given: str | None) -> None:
        self._folder = folder
        self._given = given
        self._private: EmbeddedPostgres | None = None

    def start(self) -> str:
        """Start it where it is ours, and return its URL. Blocks, so that no stop can fall into it.

        Raises: CommandError.
        """
        if self._given:
            return self._given
        from hyrex_broker.embedded import EmbeddedPostgres, EmbeddedPostgresError

        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / ".gitignore").write_text("*\n", encoding="utf-8")
            self._private = EmbeddedPostgres(self._folder / PLACE)
            self._private.start()
        except EmbeddedPostgresError as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            raise CommandError(
                f"--data-dir {self._folder}: cannot be written ({error}); name another folder"
            ) from None
        return self._private.url

    def stop(self) -> None:
        """Shut it down where it is ours."""
        if self._private is not None:
            self._private.stop()

    def __str__(self) -> str:
        if self._private is not None:
            return f"postgres {self._private.version}, private, data in {self._folder}/"
        parts = urlsplit(self._given or "")
        return f"postgres at {parts.hostname}:{parts.port or 5432}{parts.path} (--database-url)"
