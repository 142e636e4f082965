"""What `hyrex dev` shows: its own lines, and those of its children under a label."""

import re
from typing import Final

import typer

COLORS: Final = {"broker": typer.colors.BLUE, "worker": typer.colors.GREEN, "dev": typer.colors.CYAN}
HIDDEN: Final = re.compile(r"(broker|worker) ready: ")


def say(text: str) -> None:
    """A line of `hyrex dev` itself."""
    typer.echo(text)


def warn(text: str) -> None:
    """A line that asks for attention."""
    typer.secho(text, fg=typer.colors.RED)


def relay(label: str, line: str) -> None:
    """A line of a child. Its ready line is left out: the summary says the same."""
    if not HIDDEN.match(line):
        typer.echo(f"{typer.style(label.ljust(6), fg=COLORS[label])} | {line}")
