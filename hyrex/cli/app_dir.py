"""`--app-dir`: where a command looks for the user's modules, told to every process by HYREX_APP_DIR."""

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
    """Let this process and its children look there; None leaves the environment as it is.

    Raises: CommandError.
    """
    if folder is not None and not folder.is_dir():
        raise CommandError(f"--app-dir {folder.resolve()}: there is no such folder", status=2)
    if folder is not None:
        os.environ["HYREX_APP_DIR"] = str(folder.resolve())
