"""Named statements from storage/sql/*.sql: `-- name: x` begins one, the next begins the next."""

import re
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final

NAMES: Final[dict[str, str]] = {}
"""The name of each statement that was loaded, as metrics show it: report.classify_reports."""
_NAME: Final = re.compile(r"^-- name: (\w+)[ \t]*$", re.MULTILINE)


@cache
def load(aggregate: str) -> MappingProxyType[str, str]:
    """All statements of sql/<aggregate>.sql by name, comments included."""
    text = files("hyrex_broker.storage").joinpath("sql", f"{aggregate}.sql").read_text()
    parts = _NAME.split(text)
    found = dict(zip(parts[1::2], (body.strip() for body in parts[2::2]), strict=True))
    NAMES.update({sql: f"{aggregate}.{name}" for name, sql in found.items()})
    return MappingProxyType(found)
