"""The journal: what really happened, one JSON line an event, written by many processes.

Each line is one write() to a file opened for appending, so lines of killed processes are whole or absent.
Times are seconds of the machine's monotonic clock, which all its processes share.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

VARIABLE: Final = "HYREX_CHAOS_JOURNAL"


class Journal:
    """Appends events to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    @classmethod
    def of_environment(cls) -> "Journal":
        """The journal that HYREX_CHAOS_JOURNAL names."""
        return cls(Path(os.environ[VARIABLE]))

    def note(self, event: str, **fields: Any) -> None:
        """Write one event down."""
        line = json.dumps({"event": event, "at": time.monotonic(), **fields}, separators=(",", ":"))
        os.write(self._file, line.encode() + b"\n")

    def read(self) -> Iterator[dict[str, Any]]:
        """All events, in the order they were written."""
        with self._path.open() as lines:
            for line in lines:
                yield json.loads(line)
