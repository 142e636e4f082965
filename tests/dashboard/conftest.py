"""A shop with a broker and a worker, and a browser without scripts that looks at it."""

import itertools
import os
from collections.abc import Iterator

import pytest

from hyrex.dashboard.app import make_app
from hyrex.dashboard.options import DashboardOptions
from tests.dashboard.shop import Reader, Shop
from tests.support.postgres import copied_database
from tests.support.processes import Processes

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def shop(postgres_url: str, template_database: str) -> Iterator[Shop]:
    """One for each module: what its tests do to one task or queue, no other test looks at."""
    name = f"hyrex_shop_{os.getpid()}_{next(_numbers)}"
    processes = Processes()
    with copied_database(postgres_url, template_database, name) as url:
        try:
            yield Shop.opened(processes, url)
        finally:
            processes.end()


@pytest.fixture
def reader(shop: Shop) -> Iterator[Reader]:
    """A browser at a dashboard of the shop."""
    with Reader(make_app(DashboardOptions(shop.url))) as browser:
        yield browser
