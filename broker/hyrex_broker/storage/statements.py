"""Named statements from storage/sql/*.sql: `-- name: x` begins one, the next begins the next.

What several statements of a file have in common is a part: `-- part: y` begins it, and a line `-- use: y`
stands for it.
"""

import re
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final

NAMES: Final[dict[str, str]] = {}
"""The name of each statement that was loaded, as metrics show it: report.classify_reports."""
_HEAD: Final = re.compile(r"^-- (name|part): (\w+)[ \t]*$", re.MULTILINE)
_USE: Final = re.compile(r"^[ \t]*-- use: (\w+)[ \t]*$", re.MULTILINE)


@cache
def load(aggregate: str) -> MappingProxyType[str, str]:
    """All statements of sql/<aggregate>.sql by name, comments included."""
    text = files("hyrex_broker.storage").joinpath("sql", f"{aggregate}.sql").read_text()
    _, *pieces = _HEAD.split(text)
    named = list(zip(pieces[::3], pieces[1::3], (body.strip() for body in pieces[2::3]), strict=True))
    parts = {name: body for kind, name, body in named if kind == "part"}
    found = {name: _whole(body, parts) for kind, name, body in named if kind == "name"}
    NAMES.update({sql: f"{aggregate}.{name}" for name, sql in found.items()})
    return MappingProxyType(found)


def _whole(body: str, parts: dict[str, str]) -> str:
    """A statement with its parts in it. Raises KeyError for one that is not there."""
    return _USE.sub(lambda use: parts[use[1]], body)
