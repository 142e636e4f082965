"""`hyrex run-broker` and `hyrex migrate`: the broker, for production."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from hyrex.cli.errors import CommandError

DatabaseUrl = Annotated[
    str | None,
    typer.Option(envvar="HYREX_DATABASE_URL", help="postgresql://user:password@host:port/database"),
]
NEEDS_EXTRA = "the broker's libraries are not installed; run `pip install 'hyrex[broker]'`"


def run_broker(
    database_url: DatabaseUrl = None,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Port 0 picks a free one.")
    ] = "127.0.0.1:50051",
    name: Annotated[str | None, typer.Option(help="A name for people (host-pid).")] = None,
    token: Annotated[str | None, typer.Option(envvar="HYREX_TOKEN", help="What clients must show.")] = None,
    lease_duration: Annotated[float, typer.Option(help="Seconds until a silent worker is lost.")] = 15.0,
    drain_timeout: Annotated[float, typer.Option(help="Seconds to hand workers over at the end.")] = 10.0,
    processes: Annotated[int, typer.Option(help="Broker processes on one port.")] = 1,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key, PEM.")] = None,
) -> None:
    """Run a broker until SIGTERM or Ctrl-C."""
    flags = {
        "--listen": listen,
        "--name": name,
        "--lease-duration": lease_duration,
        "--drain-timeout": drain_timeout,
        "--processes": processes if processes != 1 else None,
        "--tls-cert": tls_cert,
        "--tls-key": tls_key,
    }
    secrets = {"HYREX_DATABASE_URL": required_url(database_url), "HYREX_TOKEN": token}
    arguments = [part for flag, value in flags.items() if value is not None for part in (flag, str(value))]
    _become_broker(arguments, {key: value for key, value in secrets.items() if value})


def _become_broker(arguments: list[str], secrets: dict[str, str]) -> None:
    """Go on as `python -m hyrex_broker`; secrets go by environment, where `ps` does not show them."""
    if find_spec("asyncpg") is None:
        raise CommandError(NEEDS_EXTRA)
    sys.stdout.flush()
    command = [sys.executable, "-P", "-m", "hyrex_broker", *arguments]
    os.execve(sys.executable, command, dict(os.environ) | secrets)


def migrate(database_url: DatabaseUrl = None) -> None:
    """Bring the database to the newest schema; safe to repeat, and while brokers run."""
    import asyncio

    try:
        from hyrex_broker.storage.migrate import migrate as migrate_database
    except ModuleNotFoundError as error:
        raise CommandError(NEEDS_EXTRA) from error
    applied = asyncio.run(migrate_database(required_url(database_url)))
    typer.echo(f"the database has schema {applied}")


def required_url(given: str | None) -> str:
    """The database to use. Raises: CommandError where none is named."""
    url = given or os.environ.get("HYREX_DATABASE_URL")
    if not url:
        raise CommandError(
            "no database is named; pass --database-url or set HYREX_DATABASE_URL "
            "(for development, `hyrex dev` brings its own)",
            status=2,
        )
    return url
