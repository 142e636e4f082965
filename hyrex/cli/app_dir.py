"""`--app-dir`: the folder in which the user's modules are looked for; child processes get it as
HYREX_APP_DIR."""

import os
from pathlib import Path
from typing import Annotated

import typer

from hyrex.cli.errors import CommandError

AppDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Look for MODULE in this folder first, for instance src (HYREX_APP_DIR)."
    ),
]


def use_app_dir(folder: Path | None) -> None:
    """Set HYREX_APP_DIR for this process and its children; None leaves the environment as it is.

    Raises: CommandError.
    """
    if folder is not None and not folder.is_dir():
        raise CommandError(f"--app-dir {folder.resolve()}: there is no such folder", status=2)
    if folder is not None:
        os.environ["HYREX_APP_DIR"] = str(folder.resolve())
