"""Files that are read again when they change: tokens, certificates. Secret stores replace files while brokers
run."""

import os
from collections.abc import Iterable
from pathlib import Path


class ChangedFiles:
    """Tells whether one of some files has changed since it was asked last."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)
        self._last = self._state()

    def changed(self) -> bool:
        """Return True once for each change. A file that is away has not changed: it is being replaced."""
        found = self._state()
        if found == self._last or None in found:
            return False
        self._last = found
        return True

    def _state(self) -> list[tuple[int, int, int] | None]:
        return [_state_of(path) for path in self._paths]


def _state_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
