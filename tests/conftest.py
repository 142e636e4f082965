"""Fixtures for every test: a real Postgres, real brokers and workers."""

import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from xdist.remote import Producer  # type: ignore[import-untyped]
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]
from xdist.workermanage import WorkerController  # type: ignore[import-untyped]

pytest_plugins = ["tests.support.postgres", "tests.support.processes"]

HERE: Final = Path(__file__).parent
# Folders whose tests all measure; single files say `pytestmark = pytest.mark.alone`.
ALONE: Final = {"hostile", "protocol_abuse", "benchmarks"}
# They build the clients of other languages, each in one place.
BUILDS: Final = {"conformance", "integration/examples", "integration/proto"}
# Those whose tests take longest, in this order: a process that begins one of them last ends after all others.
LONG: Final = (
    *sorted(BUILDS),
    "faults",
    "state",
    "cli",
    "integration/worker",
    "dashboard",
    "integration",
    "contract",
)
# What prints where a test hangs: a copy of the standard error that is not captured.
_stderr = pytest.StashKey[int]()
# So much longer than its timeout a test may hang where pytest-timeout cannot end it.
PATIENCE_S: Final = 60.0
# The longest timeout of a test is half an hour (tests/integration/examples): there may be no news so long.
NO_NEWS_S: Final = 1800.0 + 2 * PATIENCE_S


def _is_ours(record: logging.LogRecord) -> bool:
    """gRPC tells the loop of an earlier test of its events, and asyncio logs here that it is closed."""
    is_closed = bool(record.exc_info) and str(record.exc_info[1]) == "Event loop is closed"  # type: ignore[index]
    return not (is_closed and "PollerCompletionQueue" in record.getMessage())


def pytest_configure(config: pytest.Config) -> None:
    """Keep out of the tests what no test has caused."""
    # A shell that starts them in the background has Ctrl+C ignored, by all that they start as well.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    logging.getLogger("asyncio").addFilter(_is_ours)
    config.stash[_stderr] = os.dup(2)


def _watch(config: pytest.Config, seconds: float) -> None:
    """Show where every thread stands and end the process, unless this is called again in that time."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=config.stash[_stderr])


@contextmanager
def _no_hang(item: pytest.Item) -> Iterator[None]:
    """End what takes longer, and what keeps this process from its next test.

    pytest-timeout interrupts a test once: a fixture that waits for what hung in the test then waits for ever.
    Nothing interrupts a process between two tests.
    """
    marker = item.get_closest_marker("timeout")
    limit_s = float(marker.args[0] if marker else item.config.getini("timeout"))
    _watch(item.config, limit_s + PATIENCE_S)
    try:
        yield
    finally:
        _watch(item.config, PATIENCE_S)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A test with its fixtures ends in its time, or its process does."""
    with _no_hang(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Watched anew, because pytest ends the watch over the protocol when a test fails."""
    with _no_hang(item):
        return (yield)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Name what failed at once: the report at the end may never come."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        print(f"\n{report.nodeid} failed ({report.when})", file=sys.__stderr__, flush=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    """What tests leave behind keeps no process from its end. One of several waits until all are done."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        faulthandler.cancel_dump_traceback_later()
    else:
        _watch(config, PATIENCE_S)


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Where scripts/test runs tests in several processes, each file, and all builds, stay in one of them."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0].removeprefix("tests/")
        return "builds" if file.rpartition("/")[0] in BUILDS else file

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:
        """Watch the process that hands out the tests as well."""
        _watch(self.config, NO_NEWS_S)
        super().mark_test_complete(node, item_index, duration)

    def remove_node(self, node: WorkerController) -> str | None:
        """Run neither the test again that ended its process nor the files that were done: xdist would do the
        one without end, and waits for ever for a process to which it has given nothing else."""
        files = self.assigned_work[node]
        left = (test for tests in files.values() for test, is_done in tests.items() if not is_done)
        crashed: str | None = next(left, None)
        for tests in files.values():
            tests.update({crashed: True} if crashed in tests else {})
        self.assigned_work[node] = {file: tests for file, tests in files.items() if not all(tests.values())}
        super().remove_node(node)
        return crashed


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    """A group's mark (`loadgroup`) would do, but has no effect with pytest 9.2."""
    config.option.loadscopereorder = False  # the files with most tests first: those are the quickest
    return ByFile(config, log)


def _rank(item: pytest.Item) -> int:
    """Where a test's folder comes in `LONG`; after all of these if it does not."""
    folder = item.path.relative_to(HERE).parent
    names = {str(each) for each in (folder, *folder.parents)}
    return next((place for place, name in enumerate(LONG) if name in names), len(LONG))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what measures, so that it runs when the others are done, let what takes long begin first, and
    refuse names that differ in each process."""
    items.sort(key=_rank)
    for item in items:
        if " at 0x" in item.nodeid:  # several processes would not agree on what they share
            raise pytest.UsageError(f"a test's name has an address in it, give it an id: {item.nodeid}")
        if item.path.relative_to(HERE).parts[0] in ALONE:
            item.add_marker(pytest.mark.alone)
