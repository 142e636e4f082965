"""`hyrex outbox`: the outbox of a database beside the broker's. What was refused is in outbox_rows.py."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from hyrex.cli.errors import CommandError, libraries_missing
from hyrex.cli.output import say
from hyrex.cli.run_broker import Schema, outbox_url_of, schema_of

commands = typer.Typer(help="What is enqueued in transactions of applications.", no_args_is_help=True)


@commands.callback()
def group() -> None:
    """What is enqueued in transactions of applications."""


@commands.command("install")
def install(
    outbox_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The application's database (HYREX_OUTBOX_URL)."),
    ] = None,
    outbox_url_file: Annotated[
        Path | None, typer.Option(help="A file that holds the URL (HYREX_OUTBOX_URL_FILE).")
    ] = None,
    schema: Schema = None,
    grant_to: Annotated[
        str | None, typer.Option(metavar="ROLE", help="Let brokers with this role take what is enqueued.")
    ] = None,
    enqueue_as: Annotated[
        str | None,
        typer.Option(metavar="ROLE", help="Let hyrex.enqueue run as this role, which needs no rights."),
    ] = None,
    grant_enqueue_to: Annotated[
        str | None, typer.Option(metavar="ROLE", help="Let this role call hyrex.enqueue in its transactions.")
    ] = None,
) -> None:
    """Make an outbox in a database beside the broker's, whose brokers take it with --outbox-url.

    Safe to repeat; it makes one table of rows, one of its version, and three functions.
    """
    try:
        from hyrex_broker.domain.errors import BrokerError
        from hyrex_broker.storage import preflight
        from hyrex_broker.storage.grants import EnqueueGrants
        from hyrex_broker.storage.outbox_install import OutboxGrants
        from hyrex_broker.storage.outbox_install import install as install_outbox
    except ModuleNotFoundError as error:
        raise libraries_missing("broker") from error
    url, name = outbox_url_of(outbox_url, outbox_url_file), schema_of(schema)
    if url is None:
        raise CommandError("no database is named; pass --outbox-url or set HYREX_OUTBOX_URL", status=2)
    allowed = OutboxGrants(grant_to, EnqueueGrants(enqueue_as, grant_enqueue_to))

    async def made() -> int:
        await preflight.reach(url, "set --outbox-url or HYREX_OUTBOX_URL")
        return await install_outbox(url, name, allowed)

    try:
        version = asyncio.run(made())
    except BrokerError as error:
        raise CommandError(error.message) from error
    say(f"schema {name} of the database has an outbox of version {version}")
