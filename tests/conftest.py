"""Fixtures for every test: a real Postgres, real brokers and workers."""

from pathlib import Path
from typing import Final

import pytest

pytest_plugins = ["tests.support.postgres", "tests.support.processes"]

HERE: Final = Path(__file__).parent
# Folders whose tests all measure; single files say `pytestmark = pytest.mark.alone`.
ALONE: Final = {"hostile", "protocol_abuse", "benchmarks"}
# They build the clients of other languages, each in one place.
BUILDS: Final = {"conformance", "integration/examples", "integration/proto"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where scripts/test runs tests in several processes, each file, and all builds, stay in one of them."""
    for item in items:
        place = item.path.relative_to(HERE)
        if place.parts[0] in ALONE:
            item.add_marker(pytest.mark.alone)
        folder = str(place.parent)
        item.add_marker(pytest.mark.xdist_group("builds" if folder in BUILDS else str(place)))
