"""Prints data: a table for people, JSON for programs."""

import io
import json
import re
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import typer

if TYPE_CHECKING:
    from rich.console import Console

# Control characters, and those that change the direction of a line: names, errors and tracebacks come from
# whoever may send a task, and would move the cursor, hide lines or type answers in the reader's terminal.
_UNPRINTABLE: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """The text with control characters escaped, except tabs and line ends."""
    return _UNPRINTABLE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"  # as JSON does


def make_writable() -> None:
    """Make both streams accept every text; characters that the locale's encoding lacks are escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not _takes_unicode(stream):
            stream.reconfigure(errors="backslashreplace")


def _takes_unicode(stream: object) -> bool:
    return str(getattr(stream, "encoding", "")).lower().replace("-", "").startswith("utf")


def say(text: str) -> None:
    """Print a line of text, with control characters escaped."""
    typer.echo(printable(text))


def print_json(value: Any) -> None:
    """Print a value as JSON, indented."""
    say(json.dumps(value, indent=2, ensure_ascii=not _takes_unicode(sys.stdout), default=datetime.isoformat))


def print_line(value: Any) -> None:
    """Print a value as JSON on one line, for a stream of values."""
    say(json.dumps(value, ensure_ascii=not _takes_unicode(sys.stdout), default=datetime.isoformat))


def print_list(kind: str, items: Sequence[Any], next_page: str = "") -> None:
    """Print a list as JSON: an object with the list under its kind, and the next page's token or null."""
    print_json({kind: items, "next_page": next_page or None})


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """Print rows under their columns; `empty` if there are none."""
    if not rows:
        say(empty)
        return
    if sys.stdout is None:  # closed by the shell (`>&-`)
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "id")
    for row in rows:
        table.add_row(*(shown(cell) for cell in row))
    console().print(table)


def console() -> "Console":
    """A console that prints texts as they are: names come from whoever may send a task, and "x[/x]" is no
    markup, ":smile:" no picture."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 200
    return Console(width=width, highlight=False, markup=False, emoji=False)


def shown(value: object) -> str:
    """A value as text for people."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        case _:
            return printable(str(value)).replace("\n", "\\n").replace("\t", "\\t")


def duration(seconds: float | None) -> str:
    """A duration as short text: 4 ms, 1.25 s, 3 min 20 s."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 100:
        return f"{seconds:.2f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
