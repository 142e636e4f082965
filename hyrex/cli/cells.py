"""Which cell a command asks where HYREX_CELLS is set: one that is named, or that of a queue or a task."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import typer

from hyrex.cells import Cell, CellRoutes, trusted_cells
from hyrex.cli.errors import CommandError
from hyrex.config import cells_text, read_token

if TYPE_CHECKING:
    import grpc.aio

_LOOK_WITHIN_S: Final = 10.0


def given_cells(url: str) -> CellRoutes | None:
    """The cells, where `url` is what HYREX_CELLS says; see given_or_cells. Raises: CommandError."""
    if not url or url != cells_text():
        return None
    try:
        return trusted_cells(url, read_token())
    except ValueError as error:
        raise CommandError(str(error), status=2) from None


def url_for_queue(url: str, queue: str) -> str:
    """The brokers to ask about a queue."""
    cells = given_cells(url)
    return url if cells is None else cells.of(queue).url


def url_for_task(url: str, task_id: str) -> str:
    """The brokers to ask about a task. Raises: CommandError if a cell that may have it does not say so."""
    return next(iter(urls_for_tasks(url, [task_id])))


def urls_for_tasks(url: str, task_ids: Sequence[str]) -> dict[str, list[str]]:
    """Tasks by the brokers to ask about them; those that are in no cell are asked for in one of them.

    Raises: CommandError if a cell that may have one does not say so.
    """
    cells = given_cells(url)
    if cells is None:
        return {url: list(task_ids)}
    found: dict[str, list[str]] = {}
    for task_id in task_ids:
        where = asyncio.run(_located(cells, task_id)) or cells.cells[0].url
        found.setdefault(where, []).append(task_id)
    return found


async def _located(cells: CellRoutes, task_id: str) -> str | None:
    answers = await asyncio.gather(*(_has(cell, task_id) for cell in cells.cells))
    for cell, answer in zip(cells.cells, answers, strict=True):
        if answer is True:
            return cell.url
    for cell, answer in zip(cells.cells, answers, strict=True):
        if answer is not False:
            raise CommandError(
                f"cannot tell whether cell {cell.name!r} ({cell.url}) has task {task_id}: {answer}"
            )
    return None


async def _has(cell: Cell, task_id: str) -> bool | str:
    """Return True if a cell has a task, False if it has not, or why that is not known."""
    from hyrex.address import parse_url
    from hyrex.transport.any_broker import at_any
    from hyrex.transport.errors import CallFailed
    from hyrex.v1 import task_service_pb2, task_service_pb2_grpc

    async def call(channel: "grpc.aio.Channel") -> Any:
        stub = task_service_pb2_grpc.TaskServiceStub(channel)
        return await stub.GetTask(task_service_pb2.GetTaskRequest(task_id=task_id))

    try:
        async with asyncio.timeout(_LOOK_WITHIN_S):
            await at_any(parse_url(cell.url), read_token(), call)
    except TimeoutError:
        return f"no answer within {_LOOK_WITHIN_S:.0f} s"
    except CallFailed as error:
        failure = error.failure
        return False if failure.reason == "TASK_NOT_FOUND" else failure.message or failure.code.name
    return True


def given_or_cells(context: typer.Context, url: str) -> str:
    """What --broker-url or HYREX_BROKER_URL says; without them what HYREX_CELLS says, if anything."""
    source = context.get_parameter_source("broker_url")
    by_default = source is not None and source.name == "DEFAULT"  # by its name: typer may bring its own click
    return cells_text() or url if by_default else url


def given_or_one_cell(context: typer.Context, url: str) -> str:
    """As given_or_cells, for a command that is about one cell. Raises: CommandError."""
    return url_of_one(given_or_cells(context, url), f"`{context.command_path}`")


def url_of_one(url: str, what: str) -> str:
    """The brokers to ask. Raises: CommandError if it is not said of which cell."""
    cells = given_cells(url)
    if cells is None:
        return url
    if len(cells.cells) == 1:
        return cells.cells[0].url
    raise CommandError(
        f"HYREX_CELLS has {len(cells.cells)} cells, and {what} is about one of them: say which with "
        f"--broker-url. {cells.listed()}",
        status=2,
    )


def urls_of_all(url: str) -> list[str]:
    """The brokers of every cell, one address or list after the other."""
    cells = given_cells(url)
    return [url] if cells is None else [cell.url for cell in cells.cells]
