"""`hyrex doctor`: finds what keeps this machine from running tasks, with the remedy for each finding.

The client's side needs only HYREX_BROKER_URL and the token. If a database is named, the broker's side is
examined too, without changing anything.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from hyrex.cli.cells import urls_of_all
from hyrex.cli.connection import DEFAULT_URL, AsJson, CellsUrl
from hyrex.cli.output import print_list, say
from hyrex.cli.run_broker import Schema, outbox_url_of, required_url, schema_of, standby_url
from hyrex.cli.variables import misspelt

if TYPE_CHECKING:
    import grpc.aio

CALL_WITHIN_S: Final = 5.0
MOST_ROWS: Final = 100
WORST_CLOCK_S: Final = 30.0  # ids are accepted up to 60 s ahead
OLD_ID: Final = "00000000-0000-7000-8000-000000000000"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was examined. `remedy` is empty if it is right."""

    what: str
    found: str
    remedy: str = ""


_NO_BROKER: Final = Finding(
    "broker", "its libraries are not installed here", "run this where the broker is installed"
)


def doctor(
    broker_url: CellsUrl = DEFAULT_URL,
    database_url: Annotated[
        str | None, typer.Option(metavar="URL", help="The broker's database (HYREX_DATABASE_URL).")
    ] = None,
    database_url_file: Annotated[
        Path | None, typer.Option(help="A file that holds it (HYREX_DATABASE_URL_FILE).")
    ] = None,
    read_database_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The brokers' standby for lists (HYREX_READ_DATABASE_URL)."),
    ] = None,
    outbox_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="An application's database with an outbox (HYREX_OUTBOX_URL)."),
    ] = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """Look at variables, address, token, TLS, versions and clock, and at the databases that are named.

    Exit status 1 if anything needs a remedy.
    """
    findings = [
        Finding(name, "nothing reads it", f"did you mean {near}?") for name, near in misspelt().items()
    ]
    for url in urls_of_all(broker_url):
        findings += asyncio.run(_collect(_client(url)))
    if database := _database(database_url, database_url_file):
        findings += asyncio.run(_broker_side(database, standby_url(read_database_url), schema))
    if (outbox := outbox_url_of(outbox_url)) is not None:
        findings += asyncio.run(_outbox_beside(outbox, schema))
    if as_json:
        print_list("findings", [asdict(finding) for finding in findings])
    else:
        for finding in findings:
            _print(finding)
    if any(finding.remedy for finding in findings):
        raise typer.Exit(1)


def _print(finding: Finding) -> None:
    say(f"{'MEND' if finding.remedy else 'ok':4}  {finding.what}: {finding.found}")
    if finding.remedy:
        say(f"      {finding.remedy}")


async def _collect(findings: AsyncIterator[Finding]) -> list[Finding]:
    return [finding async for finding in findings]


async def _client(url: str) -> AsyncIterator[Finding]:
    from hyrex.address import parse_url, protect_token
    from hyrex.config import read_token

    try:
        addresses = parse_url(url)
    except ValueError as error:
        yield Finding(
            "broker URL", str(error), "set HYREX_BROKER_URL, for instance to grpc://localhost:50051"
        )
        return
    try:
        token = read_token()
    except ValueError as error:
        yield Finding("token", str(error), "set HYREX_TOKEN, or HYREX_TOKEN_FILE to a file that holds it")
        return
    try:
        protect_token(addresses, token)
    except ValueError as error:
        yield Finding("token", str(error), "connect to a broker with TLS: grpcs://")
        return
    yield Finding("token", "given" if token else "none given")
    for address in addresses:
        async for finding in _address(address, token):
            yield finding


async def _address(address: Any, token: str | None) -> AsyncIterator[Finding]:
    from hyrex.transport.channel import open_address
    from hyrex.transport.health import check, serves

    async with open_address(address, token) as channel:
        began = time.monotonic()
        if not await serves(channel) and not (await check(channel)).answers:
            why = await _why_silent(channel)
            yield Finding(address.url, why, _silent_remedy(address, why))
            return
        took_ms = (time.monotonic() - began) * 1000
        if not (await check(channel)).serves:
            yield Finding(
                address.url, "answers, but does not serve", "look at the broker's log: is its database away?"
            )
            return
        yield Finding(address.url, f"serves, answered in {took_ms:.0f} ms")
        for look in (_versions, _clock, _outbox):
            yield await _guarded(address.url, look(channel, address.url))


async def _why_silent(channel: "grpc.aio.Channel") -> str:
    """Why the connection fails, according to gRPC."""
    import grpc.aio

    call: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
    try:
        await call(b"", timeout=2.0)
    except grpc.aio.AioRpcError as error:
        return error.details() or error.code().name
    return "answers only now and then"


def _silent_remedy(address: Any, why: str) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in why:
        return (
            "set GRPC_DEFAULT_SSL_ROOTS_FILE_PATH to a file with the certificate of the authority that "
            f"signed the broker's, and check that the broker's is valid now and for the name in {address.url}"
        )
    other = "grpc" if address.secure else "grpcs"
    return (
        f"is a broker running there (`hyrex dev`, `hyrex run-broker`)? Does it want {other}:// instead of "
        f"{address.url.partition(':')[0]}://, or is a firewall between?"
    )


async def _guarded(url: str, finding: Awaitable[Finding]) -> Finding:
    """The finding, or one for the error with which the broker refused the call."""
    import grpc.aio

    from hyrex.transport.errors import call_failure

    try:
        return await finding
    except grpc.aio.AioRpcError as error:
        failure = call_failure(error)
    if failure.reason == "TOKEN_INVALID" or failure.code is grpc.StatusCode.UNAUTHENTICATED:
        return Finding(f"{url} token", "refused", "set HYREX_TOKEN to the token that the broker was given")
    if failure.reason == "SPANS_CELLS":
        text = "a gateway to several cells, which knows none of their brokers"
        return Finding(f"{url} brokers", f"{text}; --broker-url names those of one cell, HYREX_CELLS all")
    return Finding(url, str(failure), "look for it in the broker's log")


async def _versions(channel: "grpc.aio.Channel", url: str) -> Finding:
    from hyrex.v1 import admin_service_pb2, admin_service_pb2_grpc

    stub = admin_service_pb2_grpc.AdminServiceStub(channel)
    answer = await stub.ListBrokers(admin_service_pb2.ListBrokersRequest(), timeout=CALL_WITHIN_S)
    ours, found = version("hyrex"), sorted({broker.version for broker in answer.brokers})
    text = f"{len(answer.brokers)} in this cluster, version {', '.join(found)}; this is {ours}"
    older = [each for each in found if each != ours]
    remedy = f"update all to {ours}, brokers first" if older else ""
    return Finding(f"{url} brokers", text, remedy)


async def _clock(channel: "grpc.aio.Channel", url: str) -> Finding:
    """Send a task whose id is too old to be stored, since the refusal contains the broker's time."""
    from hyrex.v1 import task_pb2, task_service_pb2, task_service_pb2_grpc

    task = task_pb2.NewTask(task_id=OLD_ID, name="hyrex.doctor", queue="hyrex.doctor")
    request = task_service_pb2.SubmitTasksRequest(tasks=[task])
    stub = task_service_pb2_grpc.TaskServiceStub(channel)
    began = time.time()
    (result,) = (await stub.SubmitTasks(request, timeout=CALL_WITHIN_S)).results
    theirs_ms = int(result.error.metadata["server_time_ms"])
    ahead_s = (began + time.time()) / 2 - theirs_ms / 1000
    text = f"{abs(ahead_s):.2f} s {'ahead of' if ahead_s > 0 else 'behind'} the broker's"
    remedy = "set this machine's clock (NTP)" if abs(ahead_s) > WORST_CLOCK_S else ""
    return Finding(f"{url} clock", text, remedy)


async def _outbox(channel: "grpc.aio.Channel", url: str) -> Finding:
    """What was enqueued in transactions and was refused, as far as this token may see it."""
    from hyrex.v1 import admin_service_pb2, admin_service_pb2_grpc

    stub = admin_service_pb2_grpc.AdminServiceStub(channel)
    request = admin_service_pb2.ListRefusedRowsRequest(page_size=MOST_ROWS)
    answer = await stub.ListRefusedRows(request, timeout=CALL_WITHIN_S)
    what = f"{url} outbox"
    if answer.rows:
        newest, more = answer.rows[0], "+" if answer.next_page_token else ""
        rows = "1 refused row" if len(answer.rows) == 1 else f"{len(answer.rows)}{more} refused rows"
        text = f"{rows}; the newest, of {newest.name}: {newest.reason}"
        return Finding(what, text, "look at them with `hyrex outbox list`, then retry or dismiss them")
    if answer.beside_away:
        remedy = "is the database of --outbox-url up, and may the brokers log in there?"
        return Finding(what, "the database beside the brokers' does not answer", remedy)
    return Finding(what, "no refused rows")


def _database(url: str | None, file: Path | None) -> str | None:
    """The database that is named; None if none is. Raises: CommandError."""
    named = url or file or os.environ.get("HYREX_DATABASE_URL") or os.environ.get("HYREX_DATABASE_URL_FILE")
    return required_url(url, file) if named else None


async def _outbox_beside(url: str, schema: str | None) -> list[Finding]:
    try:
        from hyrex_broker.storage.examine import examine_outbox
    except ModuleNotFoundError:
        return [_NO_BROKER]
    found = await examine_outbox(url, schema_of(schema))
    return [Finding(found.what, found.found, found.remedy)]


async def _broker_side(url: str, read_url: str | None, schema: str | None) -> list[Finding]:
    try:
        from hyrex_broker.storage.examine import examine
        from hyrex_broker.storage.examine_replica import examine_replica
    except ModuleNotFoundError:
        return [_NO_BROKER]
    logging.getLogger("hyrex_broker").setLevel(logging.CRITICAL)  # what a broker logs here, a finding says
    examined = await examine(url, schema_of(schema))
    if read_url is not None:
        examined.append(await examine_replica(read_url, url, schema_of(schema)))
    return [Finding(each.what, each.found, each.remedy) for each in examined]
