"""`hyrex dev`: Postgres, broker and worker for development, from one command."""

from pathlib import Path
from typing import Annotated

import typer


def dev(
    target: Annotated[
        str | None, typer.Argument(metavar="[MODULE:APP]", help="The application; app:app where app.py is.")
    ] = None,
    port: Annotated[int, typer.Option(help="Where the broker listens.")] = 50051,
    data_dir: Annotated[Path, typer.Option(help="Where the private Postgres keeps its data.")] = Path(
        ".hyrex"
    ),
    processes: Annotated[int, typer.Option("-p", "--processes", help="The worker's processes.")] = 2,
    queue: Annotated[
        list[str] | None, typer.Option("-q", "--queue", metavar="PATTERN", help="Queues to serve (*).")
    ] = None,
    reload: Annotated[bool, typer.Option(help="Start the worker anew when a Python file changes.")] = True,
) -> None:
    """Run all of Hyrex for development; Ctrl-C ends it.

    Uses HYREX_DATABASE_URL where it is set, else a private Postgres with its data in .hyrex/.
    """
    import asyncio

    from hyrex.cli.devserver.session import DevOptions, DevSession
    from hyrex.cli.devserver.target import chosen_target

    options = DevOptions(chosen_target(target), port, data_dir, processes, tuple(queue or ()), reload)
    asyncio.run(DevSession(options).run())
