"""Waiting for what another process does, without guessing how long it takes."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(look: Callable[[], T], within_s: float = 60.0, every_s: float = 0.02) -> T:
    """The first true answer of `look`; fails the test when there was none in time."""
    deadline = time.monotonic() + within_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"not so within {within_s} s; the last answer was {found!r}"
        time.sleep(every_s)
