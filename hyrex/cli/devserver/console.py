"""What `hyrex dev` shows: its own lines, and those of its children under a label."""

import re
from typing import Final

import typer

COLORS: Final = {
    "broker": typer.colors.BLUE,
    "worker": typer.colors.GREEN,
    "dashboard": typer.colors.MAGENTA,
    "dev": typer.colors.CYAN,
}
HIDDEN: Final = re.compile(r"(broker|worker|dashboard) ready: ")


class NobodyReads(Exception):
    """Standard output was closed: `hyrex dev | head -1`."""


def say(text: str) -> None:
    """A line of `hyrex dev` itself. Raises: NobodyReads, as all here do."""
    _write(text)


def warn(text: str) -> None:
    """A line that asks for attention."""
    _write(typer.style(text, fg=typer.colors.RED))


def relay(label: str, line: str) -> None:
    """A line of a child. Its ready line is left out: the summary says the same."""
    if not HIDDEN.match(line):
        _write(f"{typer.style(label.ljust(6), fg=COLORS[label])} | {line}")


def _write(line: str) -> None:
    try:
        typer.echo(line)
    except BrokenPipeError:
        raise NobodyReads from None
