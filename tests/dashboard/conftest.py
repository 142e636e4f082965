"""A shop with a broker and a worker, and a browser without scripts that looks at it."""

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from hyrex.dashboard.app import make_app
from hyrex.dashboard.options import DashboardOptions
from tests.dashboard.chromium import Browsed
from tests.dashboard.shop import TOKEN, Reader, Shop
from tests.support.postgres import copied_database
from tests.support.processes import Processes, RunningBroker


@pytest.fixture(scope="session")
def shop(postgres_url: str, template_database: str) -> Iterator[Shop]:
    """What one test does to a task or queue, no other test looks at."""
    name = f"hyrex_shop_{os.getpid()}"
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


@pytest.fixture(scope="session")
def guarded(postgres_url: str, template_database: str) -> Iterator[RunningBroker]:
    """A broker that wants a token; tests change nothing in it that others look at."""
    processes = Processes()
    with copied_database(postgres_url, template_database, f"hyrex_guarded_{os.getpid()}") as url:
        try:
            yield processes.broker(url, env={"HYREX_TOKEN": TOKEN})
        finally:
            processes.end()


@pytest.fixture
def stranger(guarded: RunningBroker) -> Iterator[Reader]:
    """A browser at its dashboard, not signed in."""
    with Reader(make_app(DashboardOptions(guarded.url))) as reader:
        yield reader


@pytest.fixture
def nobody() -> Iterator[Reader]:
    """A browser at a dashboard whose broker is away."""
    with Reader(make_app(DashboardOptions("grpc://127.0.0.1:1"))) as reader:
        yield reader


@pytest.fixture(scope="module")
def browsed(postgres_url: str, template_database: str) -> Iterator[Browsed]:
    """A shop, its dashboard and a Chromium, for all tests of a file. Some end its broker or worker."""
    with Browsed.opened(postgres_url, template_database) as found:
        yield found


@pytest.fixture
def page(browsed: Browsed) -> Iterator[Page]:
    """A page that must load nothing from elsewhere, raise no error and open no dialog of the browser's."""
    with browsed.page() as fresh:
        yield fresh


@pytest.fixture
def phone(browsed: Browsed) -> Iterator[Page]:
    """The same on a phone."""
    with browsed.page(phone=True) as fresh:
        yield fresh
