"""`hyrex verify`: audits a running database.

Exit status 0: all is as it must be; 1: findings; 2: it could not look.

It asks Postgres and no broker: it is for when a broker cannot be trusted, or none runs.
"""

import asyncio
import logging
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from hyrex.cli.connection import AsJson
from hyrex.cli.errors import CommandError, libraries_missing
from hyrex.cli.output import print_json, say
from hyrex.cli.run_broker import DatabaseUrl, Schema, required_url, schema_of

if TYPE_CHECKING:
    from hyrex_broker.storage.verify import Discrepancy, Verified

COULD_NOT_LOOK: Final = 2


def verify(
    database_url: DatabaseUrl = None,
    database_url_file: Annotated[
        Path | None, typer.Option(help="A file that holds the URL (HYREX_DATABASE_URL_FILE).")
    ] = None,
    schema: Schema = None,
    days: Annotated[
        float | None, typer.Option(metavar="N", min=0, help="Only tasks of the last N days (all).")
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Put right what is safe to put right, then look again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look whether what must be true of the database is true; nothing is changed without --repair.

    Exit status 1 if anything is not, 2 if it could not look.
    """
    try:
        from hyrex_broker.domain.errors import BrokerError
    except ModuleNotFoundError as error:
        raise libraries_missing("broker") from error
    url, name = required_url(database_url, database_url_file), schema_of(schema)
    since = None if days is None else datetime.now(UTC) - timedelta(days=days)
    logging.getLogger("hyrex_broker").setLevel(logging.CRITICAL)
    try:
        repaired, verified = asyncio.run(_looked(url, name, since, repair=repair))
    except BrokerError as error:
        raise CommandError(error.message, status=COULD_NOT_LOOK) from error
    _tell(repaired, verified, as_json=as_json)
    if verified.findings:
        raise typer.Exit(1)


async def _looked(
    url: str, schema: str, since: datetime | None, *, repair: bool
) -> "tuple[list[Discrepancy], Verified]":
    """What was repaired, and what is true now. Raises StorageUnavailable, SchemaOutOfRange."""
    from hyrex_broker.storage import preflight
    from hyrex_broker.storage.verify import verify as look

    await preflight.reach(url)
    if not repair:
        return [], await look(url, schema, since=since)
    found = await look(url, schema, since=since, repairs=True)
    return [each for each in found.findings.values() if each.repaired], await look(url, schema, since=since)


def _tell(repaired: "list[Discrepancy]", verified: "Verified", *, as_json: bool) -> None:
    if as_json:
        print_json({
            "tasks": verified.tasks,
            "findings": [_fields(each) for each in verified.findings.values()],
            "repaired": [{"kind": each.kind, "count": each.repaired, "ids": each.ids} for each in repaired],
        })  # fmt: skip
        return
    for each in repaired:
        say(f"REPAIRED  {each.repaired} {each.kind}: {', '.join(each.ids)}")
    for each in verified.findings.values():
        say(f"WRONG  {each.kind}: {each.count} {each.meaning}")
        say(f"       {', '.join(each.ids)}{', ...' if each.count > len(each.ids) else ''}")
        say(f"       {each.remedy}")
    if not verified.findings:
        say(f"ok  {verified.tasks} tasks looked at, nothing found")


def _fields(finding: "Discrepancy") -> dict[str, Any]:
    told = asdict(finding)
    del told["repaired"]
    return {**told, "meaning": finding.meaning, "remedy": finding.remedy}
