"""`hyrex init`: a new project that runs as it is."""

import json
import shlex
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final

import typer

from hyrex.cli.errors import CommandError
from hyrex.cli.output import say

FILES: Final = (
    "app.py",
    "tasks.py",
    "send.py",
    "test_tasks.py",
    "pytest.ini",
    "requirements.txt",
    "README.md",
)


def init(
    name: Annotated[str, typer.Argument(help="Folder to make, for instance shop; . for this one.")],
) -> None:
    """Make a new project: an app, three tasks, a sender and a test."""
    if not name.strip() or not name.isprintable():
        raise CommandError(f"{name!r} is no name for a folder; . is this one", status=2)
    folder = Path(name)
    present = [file for file in FILES if (folder / file).exists()]
    if present:
        raise CommandError(f"{folder / present[0]} exists already; choose another name", status=2)
    if folder.exists() and not folder.is_dir():
        raise CommandError(f"{folder} is a file; choose another name", status=2)
    folder.mkdir(parents=True, exist_ok=True)
    template = files("hyrex.cli") / "template"
    for file in FILES:
        text = (template / f"{file}.txt").read_text(encoding="utf-8")
        text = text.replace('"PROJECT"', json.dumps(folder.resolve().name, ensure_ascii=False))
        text = text.replace("PROJECT", folder.resolve().name).replace("VERSION", version("hyrex"))
        (folder / file).write_text(text, encoding="utf-8")
    say(f"created {' '.join(FILES)}")
    there = name if not name.startswith("-") else f"./{name}"
    say(f"next: {'' if name == '.' else f'cd {shlex.quote(there)} && '}hyrex dev")
