"""`hyrex dev`: Postgres, broker and worker for development, from one command."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from hyrex.cli.app_dir import AppDir, use_app_dir
from hyrex.cli.variables import warn_of_misspelt


def dev(
    target: Annotated[
        str | None, typer.Argument(metavar="[MODULE:APP]", help="The application; app:app where app.py is.")
    ] = None,
    app_dir: AppDir = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where the broker listens.")] = 50051,
    data_dir: Annotated[Path, typer.Option(help="Where the private Postgres keeps its data.")] = Path(
        ".hyrex"
    ),
    processes: Annotated[
        int, typer.Option("-p", "--processes", min=0, help="The worker's processes; 0: usable CPUs.")
    ] = 2,
    queue: Annotated[
        list[str] | None, typer.Option("-q", "--queue", metavar="PATTERN", help="Queues to serve (*).")
    ] = None,
    database_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Use this database instead of a private one.")
    ] = None,
    schema: Annotated[
        str | None, typer.Option(metavar="NAME", help="Hyrex's own schema there (hyrex; HYREX_SCHEMA).")
    ] = None,
    dashboard: Annotated[
        int, typer.Option(min=0, max=65535, help="The dashboard's port, another if it is taken; 0: none.")
    ] = 8787,
    reload: Annotated[bool, typer.Option(help="Start the worker anew when a Python file changes.")] = True,
    show_database_url: Annotated[
        bool,
        typer.Option(
            "--show-database-url",
            help="Print the URL, with password, of the private Postgres that runs; end.",
        ),
    ] = False,
) -> None:
    """Run all of Hyrex for development; Ctrl-C ends it.

    A private Postgres keeps its data in .hyrex/. HYREX_DATABASE_URL is left alone: name another database
    with --database-url.
    """
    import asyncio

    if show_database_url:
        from hyrex.cli.devserver.database import url_of_running
        from hyrex.cli.output import say

        say(url_of_running(data_dir))
        return
    from hyrex.cli.devserver.console import NobodyReads
    from hyrex.cli.devserver.session import DevOptions, DevSession
    from hyrex.cli.devserver.target import chosen_target

    warn_of_misspelt()
    use_app_dir(app_dir)
    options = DevOptions(
        target=chosen_target(target),
        port=port,
        data_dir=data_dir,
        processes=processes,
        queues=tuple(queue or ()),
        reload=reload,
        database_url=database_url,
        schema=schema,
        dashboard=dashboard,
    )
    try:
        asyncio.run(DevSession(options).run())
    except* NobodyReads:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what Python flushes at its end
