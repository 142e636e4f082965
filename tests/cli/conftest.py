"""Projects made by `hyrex init`, one shared with `hyrex dev` running, or one of a test's own."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.shop import Shop, make_shop
from tests.support.processes import Processes


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that every user can enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="hyrex-shop-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def shop(place: Path) -> Iterator[Shop]:
    """A project with `hyrex dev` running, shared by the tests that only look."""
    (place / "shared").mkdir()
    processes = Processes()
    made = make_shop(place / "shared", processes)
    try:
        made.dev()
        yield made
    finally:
        processes.end()


@pytest.fixture
def own_shop(place: Path, request: pytest.FixtureRequest, processes: Processes) -> Shop:
    """A project of the test's own; nothing runs yet."""
    folder = place / request.node.name
    folder.mkdir()
    return make_shop(folder, processes)
