"""`hyrex outbox list | retry | dismiss`: rows of which no task can be made."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from hyrex.cli.connection import DEFAULT_URL, AsJson, BrokerUrl, ask_admin
from hyrex.cli.output import print_list, print_table, say, shown
from hyrex.cli.paging import ask_every

_AT_ONCE: Final = 1000
_CALL_S: Final = 60.0
_SHOWN_REASON: Final = 160
_AWAY: Final = "the database beside the brokers' does not answer: its rows are missing"
_DONE: Final = frozenset({"relayed", "waiting", "dismissed"})
RowIds = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of rows.")]
Name = Annotated[str, typer.Option("--task", metavar="NAME", help="Only rows of this task.")]
Queue = Annotated[str, typer.Option(metavar="QUEUE", help="Only rows of this queue.")]
All = Annotated[bool, typer.Option("--all", help="All refused rows, or those of --task and --queue.")]


def list_rows(
    name: Name = "",
    queue: Queue = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 50,
    page: Annotated[str, typer.Option(metavar="TOKEN", help="The page after one printed before.")] = "",
    broker_url: BrokerUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """List the rows that were refused, newest first, with the reasons."""
    from hyrex.cli.wire import refused_row_values
    from hyrex.v1 import admin_service_pb2 as pb

    request = pb.ListRefusedRowsRequest(page_size=limit, page_token=page, name=name, queue=queue)
    answer = ask_admin(broker_url, "ListRefusedRows", request)
    rows = [refused_row_values(row) for row in answer.rows]
    if answer.beside_away:
        typer.echo(_AWAY, err=True)
    if as_json:
        print_list("rows", rows, answer.next_page_token)
        return
    columns = ("id", "task", "queue", "refused", "reason")
    print_table(columns, [_cells(row) for row in rows], "no refused rows")
    if answer.next_page_token:
        say(f"more: --page {answer.next_page_token}")
    if rows:
        say(
            "mend the cause, then: hyrex outbox retry ID (or --all); give up: hyrex outbox dismiss ID;"
            " whole reasons and options: --json"
        )


def retry(
    row_ids: RowIds = None,
    every_row: All = False,
    name: Name = "",
    queue: Queue = "",
    options: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="First give the row these options instead of all that it has."),
    ] = None,
    to_queue: Annotated[
        str | None, typer.Option(metavar="QUEUE", help="First move the row to this queue.")
    ] = None,
    payload_file: Annotated[
        Path | None, typer.Option(help="First give the row the content of this file as its payload.")
    ] = None,
    broker_url: BrokerUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Try again to make tasks of refused rows, of a single one also with a change.

    Exit status 1 if any was refused again or is no refused row, or if --all could not reach all.
    """
    from hyrex.cli.wire import word
    from hyrex.v1 import admin_service_pb2 as pb

    change = _change(options, to_queue, payload_file)
    if change is not None and (every_row or len(row_ids or ()) != 1):
        raise typer.BadParameter("--options, --to-queue and --payload-file are for one ID")
    results: list[tuple[str, str, str]] = []
    chosen, is_whole = _chosen(row_ids, every_row, name, queue, broker_url)
    for ids in _portions(chosen):
        request = pb.RetryRefusedRowsRequest(task_ids=ids, change=change)
        for each in ask_admin(broker_url, "RetryRefusedRows", request, _CALL_S).results:
            results.append((each.task_id, word(pb.RetryRowOutcome, each.outcome), each.reason))
    _print_results(results, as_json)
    if not is_whole:
        raise typer.Exit(1)


def dismiss(
    row_ids: RowIds = None,
    every_row: All = False,
    name: Name = "",
    queue: Queue = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    broker_url: BrokerUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Remove refused rows for good: their tasks will never run."""
    from hyrex.cli.wire import word
    from hyrex.v1 import admin_service_pb2 as pb

    chosen, is_whole = _chosen(row_ids, every_row, name, queue, broker_url)
    if every_row and chosen and not yes:
        typer.confirm(f"Remove {len(chosen)} refused rows for good?", abort=True, err=True)
    results: list[tuple[str, str, str]] = []
    for ids in _portions(chosen):
        request = pb.DismissRefusedRowsRequest(task_ids=ids)
        for each in ask_admin(broker_url, "DismissRefusedRows", request, _CALL_S).results:
            results.append((each.task_id, word(pb.DismissRowOutcome, each.outcome), ""))
    _print_results(results, as_json)
    if not is_whole:
        raise typer.Exit(1)


def _change(options: str | None, queue: str | None, payload_file: Path | None) -> Any:
    from hyrex.v1 import admin_service_pb2 as pb

    if options is None and queue is None and payload_file is None:
        return None
    try:
        payload = None if payload_file is None else payload_file.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"--payload-file: {error}") from None
    return pb.RefusedRowChange(queue=queue, options=options, payload=payload)


def _chosen(
    row_ids: list[str] | None, every_row: bool, name: str, queue: str, broker_url: str
) -> tuple[list[str], bool]:
    """The ids that are named, or those of all rows that fit; and whether these are all that there are."""
    if bool(row_ids) == every_row:
        raise typer.BadParameter("name the IDs of rows (hyrex outbox list), or all of them with --all")
    if row_ids and (name or queue):
        raise typer.BadParameter("--task and --queue choose among --all; leave them out with an ID")
    if row_ids:
        return row_ids, True
    from hyrex.v1 import admin_service_pb2 as pb
    from hyrex.v1.admin_service_pb2_grpc import AdminServiceStub

    is_whole = True

    def rpc(channel: Any) -> Any:
        async def page(request: Any) -> Any:
            nonlocal is_whole
            answer = await AdminServiceStub(channel).ListRefusedRows(request)
            is_whole = is_whole and not answer.beside_away
            return answer

        return page

    request = pb.ListRefusedRowsRequest(name=name, queue=queue)
    found = [row.task_id for row in ask_every(broker_url, rpc, request, "rows")]
    if not is_whole:
        typer.echo(_AWAY, err=True)
    return found, is_whole


def _portions(ids: list[str]) -> list[list[str]]:
    return [ids[first : first + _AT_ONCE] for first in range(0, len(ids), _AT_ONCE)]


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    reason = shown(row["reason"])
    cut = reason if len(reason) <= _SHOWN_REASON else f"{reason[:_SHOWN_REASON]} …"
    return row["id"], row["task"], row["queue"], row["refused"], cut


def _print_results(results: list[tuple[str, str, str]], as_json: bool) -> None:
    if as_json:
        print_list(
            "results",
            [{"id": row_id, "outcome": outcome, "reason": why or None} for row_id, outcome, why in results],
        )
    else:
        print_table(("id", "outcome", "reason"), results, "no refused rows")
    if any(outcome not in _DONE for _, outcome, _ in results):
        raise typer.Exit(1)
