"""`hyrex run-broker` and `hyrex migrate`: the broker, for production."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from hyrex.cli.dashboard import start_beside
from hyrex.cli.errors import CommandError, libraries_missing
from hyrex.cli.output import say
from hyrex.cli.variables import warn_of_misspelt

DatabaseUrl = Annotated[
    str | None,
    typer.Option(help="postgresql://user:password@host:port/database (HYREX_DATABASE_URL)"),
]
LogFormat = Literal["text", "json"]
Schema = Annotated[
    str | None, typer.Option(metavar="NAME", help="Hyrex's own schema in the database (hyrex; HYREX_SCHEMA).")
]


def run_broker(
    database_url: DatabaseUrl = None,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Port 0 picks a free one.")
    ] = "127.0.0.1:50051",
    name: Annotated[str | None, typer.Option(help="A name for people (host-pid).")] = None,
    database_url_file: Annotated[
        Path | None, typer.Option(help="A file that holds the URL (HYREX_DATABASE_URL_FILE).")
    ] = None,
    read_database_url: Annotated[
        str | None, typer.Option(help="A standby for lists and the dashboard (HYREX_READ_DATABASE_URL).")
    ] = None,
    outbox_url: Annotated[
        str | None,
        typer.Option(help="A database of applications with an outbox (HYREX_OUTBOX_URL)."),
    ] = None,
    token: Annotated[
        str | None, typer.Option(help="Tokens that may do everything, with commas (HYREX_TOKEN).")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="A file with one a line, reread when changed (HYREX_TOKEN_FILE).")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen off loopback without TLS and token.")
    ] = False,
    lease_duration: Annotated[float, typer.Option(help="Seconds that all may be away without harm.")] = 10.0,
    drain_timeout: Annotated[float, typer.Option(help="Seconds to hand workers over at the end.")] = 10.0,
    processes: Annotated[int, typer.Option(help="Broker processes on one port.")] = 1,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key, PEM.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="Clients must have a certificate of this authority, PEM.")
    ] = None,
    payload_limit: Annotated[
        int | None, typer.Option(metavar="BYTES", help="Largest payload or result (4 MiB).")
    ] = None,
    retention_days: Annotated[int | None, typer.Option(help="Days to keep finished tasks (7).")] = None,
    dead_letter_days: Annotated[
        int | None, typer.Option(help="Days to keep tasks that failed, timed out or were lost (30).")
    ] = None,
    schema: Schema = None,
    metrics: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where Prometheus reads (off).")
    ] = None,
    log_format: Annotated[LogFormat, typer.Option(help="How lines are logged.")] = "text",
    dashboard: Annotated[
        int | None,
        typer.Option(metavar="PORT", min=1, max=65535, help="Serve the dashboard on loopback too."),
    ] = None,
) -> None:
    """Run a broker until SIGTERM or Ctrl-C."""
    warn_of_misspelt()
    flags = {
        "--listen": listen,
        "--name": name,
        "--lease-duration": lease_duration,
        "--drain-timeout": drain_timeout,
        "--processes": processes if processes != 1 else None,
        "--tls-cert": tls_cert,
        "--tls-key": tls_key,
        "--tls-client-ca": tls_client_ca,
        "--payload-limit": payload_limit,
        "--retention-days": retention_days,
        "--dead-letter-days": dead_letter_days,
        "--schema": schema,
        "--token-file": token_file,
        "--metrics": metrics,
        "--log-format": log_format if log_format != "text" else None,
    }
    arguments = [part for flag, value in flags.items() if value is not None for part in (flag, str(value))]
    if dashboard is not None:
        start_beside(listen, dashboard, tls=tls_cert is not None)
    secrets = {
        "HYREX_DATABASE_URL": required_url(database_url, database_url_file),
        "HYREX_READ_DATABASE_URL": read_database_url,
        "HYREX_OUTBOX_URL": outbox_url,
        "HYREX_TOKEN": token,
    }
    _become_broker([*arguments, *(["--insecure"] if insecure else [])], secrets)


def _become_broker(arguments: list[str], secrets: dict[str, str | None]) -> None:
    """Become `python -m hyrex_broker` (exec); secrets go by environment, which `ps` does not show."""
    if find_spec("asyncpg") is None:
        raise libraries_missing("broker")
    environment = dict(os.environ)
    for variable, value in secrets.items():
        if value is not None:
            environment.pop(f"{variable}_FILE", None)
            environment[variable] = value
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-P", "-m", "hyrex_broker", *arguments], environment)


def migrate(
    database_url: DatabaseUrl = None,
    database_url_file: Annotated[
        Path | None, typer.Option(help="A file that holds the URL (HYREX_DATABASE_URL_FILE).")
    ] = None,
    schema: Schema = None,
    grant_to: Annotated[
        str | None, typer.Option(metavar="ROLE", help="Let this role run brokers; it need own nothing.")
    ] = None,
    enqueue_as: Annotated[
        str | None,
        typer.Option(metavar="ROLE", help="Let hyrex.enqueue run as this role, which needs no rights."),
    ] = None,
    grant_enqueue_to: Annotated[
        str | None, typer.Option(metavar="ROLE", help="Let this role call hyrex.enqueue in its transactions.")
    ] = None,
) -> None:
    """Bring the database to the newest schema; safe to repeat, and while brokers run."""
    import asyncio

    try:
        from hyrex_broker.domain.errors import BrokerError
        from hyrex_broker.storage import preflight
        from hyrex_broker.storage.grants import EnqueueGrants
        from hyrex_broker.storage.migrate import migrate as migrate_database
    except ModuleNotFoundError as error:
        raise libraries_missing("broker") from error
    url, name = required_url(database_url, database_url_file), schema_of(schema)

    async def checked() -> int:
        await preflight.reach(url)
        enqueue = EnqueueGrants(enqueue_as, grant_enqueue_to)
        return await migrate_database(url, name, grant_to=grant_to, enqueue=enqueue)

    try:
        applied = asyncio.run(checked())
    except BrokerError as error:
        raise CommandError(error.message) from error
    say(f"schema {name} of the database is at version {applied}")


def schema_of(given: str | None) -> str:
    """The schema to use. Raises: CommandError if its name is invalid."""
    from hyrex_broker.config import DEFAULT_SCHEMA, SCHEMA_PATTERN, SCHEMA_RULE

    name = given or os.environ.get("HYREX_SCHEMA") or DEFAULT_SCHEMA
    if SCHEMA_PATTERN.fullmatch(name) is None:
        raise CommandError(f"--schema {name}: must be {SCHEMA_RULE}", status=2)
    return name


def required_url(url: str | None, file: Path | None) -> str:
    """The database to use. Raises: CommandError if none is named."""
    found = _given_url(
        "database_url", {"database_url": url, "database_url_file": None if file is None else str(file)}
    )
    if found is None:
        raise CommandError(
            "no database is named; pass --database-url or set HYREX_DATABASE_URL "
            "(`hyrex dev --show-database-url` prints that of a running `hyrex dev`)",
            status=2,
        )
    return found


def standby_url(url: str | None) -> str | None:
    """The standby for lists; None if none is named. Raises: CommandError."""
    return _given_url("read_database_url", {"read_database_url": url})


def outbox_url_of(url: str | None, file: Path | None = None) -> str | None:
    """The database of an application; None if none is named. Raises: CommandError."""
    return _given_url(
        "outbox_url", {"outbox_url": url, "outbox_url_file": None if file is None else str(file)}
    )


def _given_url(name: str, given: dict[str, str | None]) -> str | None:
    from hyrex_broker.database_url import wrong_url
    from hyrex_broker.given_secrets import SecretUnusable, read_secret

    try:
        found = read_secret(name, given, os.environ)
    except SecretUnusable as error:
        raise CommandError(str(error), status=2) from None
    if found is not None and (problem := wrong_url(found)):
        raise CommandError(f"--{name.replace('_', '-')}: {problem}", status=2)
    return found
