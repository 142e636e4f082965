"""Whether this thread imports the app that a worker serves: what it sends then is sent at each start."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["AT_IMPORT", "SENT_AT_IMPORT", "importing_app", "is_importing_app"]

AT_IMPORT: Final = 'write what sends tasks and waits for them below `if __name__ == "__main__":`'
"""What to do with code that runs while a worker imports its file."""
SENT_AT_IMPORT: Final = (
    "a broker is asked while a worker imports this file, which each of its processes does at each start; "
    f"{AT_IMPORT}"
)
_importer: int | None = None


@contextmanager
def importing_app() -> Iterator[None]:
    """While this thread imports the app."""
    global _importer
    before, _importer = _importer, threading.get_ident()
    try:
        yield
    finally:
        _importer = before


def is_importing_app() -> bool:
    """True on the thread that is in importing_app()."""
    return _importer == threading.get_ident()
