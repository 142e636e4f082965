"""Fixtures for every test: a real Postgres, real brokers and workers."""

import logging
from pathlib import Path
from typing import Final

import pytest
from xdist.remote import Producer  # type: ignore[import-untyped]
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

pytest_plugins = ["tests.support.postgres", "tests.support.processes"]

HERE: Final = Path(__file__).parent
# Folders whose tests all measure; single files say `pytestmark = pytest.mark.alone`.
ALONE: Final = {"hostile", "protocol_abuse", "benchmarks"}
# They build the clients of other languages, each in one place.
BUILDS: Final = {"conformance", "integration/examples", "integration/proto"}


def _is_ours(record: logging.LogRecord) -> bool:
    """gRPC tells the loop of an earlier test of its events, and asyncio logs here that it is closed."""
    is_closed = record.exc_info is not None and str(record.exc_info[1]) == "Event loop is closed"
    return not (is_closed and "PollerCompletionQueue" in record.getMessage())


def pytest_configure() -> None:
    """Keep out of the tests' logs what no test has caused."""
    logging.getLogger("asyncio").addFilter(_is_ours)


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Where scripts/test runs tests in several processes, each file, and all builds, stay in one of them."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0].removeprefix("tests/")
        return "builds" if file.rpartition("/")[0] in BUILDS else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    """A group's mark (`loadgroup`) would do, but has no effect with pytest 9.2."""
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what measures, so that nothing runs beside it."""
    for item in items:
        if item.path.relative_to(HERE).parts[0] in ALONE:
            item.add_marker(pytest.mark.alone)
