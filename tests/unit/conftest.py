"""Unit tests start no process, and so no Postgres: what does is in the other folders of tests."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

STARTS: Final = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"}
UNIT: Final = Path(__file__).parent
_running: list[str] = []


def _refuse_processes(event: str, _: tuple[Any, ...]) -> None:
    if _running and event in STARTS:
        raise RuntimeError(
            f"{_running[-1]} starts a process ({event}): unit tests do not. Put it into one of the folders "
            "that docs/contributing/README.md lists, for instance tests/integration"
        )


sys.addaudithook(_refuse_processes)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Note which unit test runs, its fixtures included. pytest calls this for all tests, of other folders
    too."""
    if not item.path.is_relative_to(UNIT):
        return (yield)
    _running.append(item.nodeid)
    try:
        return (yield)
    finally:
        _running.pop()
