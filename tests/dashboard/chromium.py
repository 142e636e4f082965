"""A Chromium that looks at a dashboard; what a page must never do fails the test that opened it."""

import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, TypeAlias

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Error, Page, Request, expect, sync_playwright

from tests.dashboard.shop import Shop
from tests.support.ports import free_port
from tests.support.postgres import copied_database
from tests.support.process import Process
from tests.support.processes import Processes

expect.set_options(timeout=60_000)
NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
Theme: TypeAlias = Literal["light", "dark"]
WITHIN_MS: Final = 60_000
PHONE: Final[dict[str, Any]] = {
    "viewport": {"width": 390, "height": 844},
    "is_mobile": True,
    "has_touch": True,
}


def chromium() -> str:
    """The program. Skips the test, by name, where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(
            "there is no Chromium (Debian: apt-get install chromium): nothing was looked at in a browser"
        )
    return found


@dataclass
class Browsed:
    """A shop, its dashboard as a process, and a browser."""

    shop: Shop
    processes: Processes
    browser: Browser
    url: str
    database_url: str
    port: int
    broker: Process

    @classmethod
    @contextmanager
    def opened(cls, postgres_url: str, template: str) -> Iterator[Self]:
        """Start all of it; end it afterwards."""
        program, processes = chromium(), Processes()
        name = f"hyrex_browsed_{uuid.uuid4().hex[:12]}"
        with copied_database(postgres_url, template, name) as database_url, sync_playwright() as playwright:
            try:
                broker = processes.broker(database_url, port=free_port())
                shop = Shop.opened(processes, database_url, broker)
                browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
                url = started_dashboard(processes, broker.url)
                port = int(broker.address.rpartition(":")[2])
                yield cls(shop, processes, browser, url, database_url, port, broker.process)
                browser.close()
            finally:
                processes.end()

    @contextmanager
    def page(self, *, phone: bool = False, theme: Theme = "light") -> Iterator[Page]:
        """A page in a context of its own, and what went wrong on it."""
        wrong: list[str] = []
        shape: dict[str, Any] = PHONE if phone else {"viewport": {"width": 1280, "height": 860}}
        context = self.browser.new_context(
            base_url=self.url, color_scheme=theme, reduced_motion="reduce", **shape
        )
        context.set_default_timeout(WITHIN_MS)
        page = context.new_page()
        complaints = Complaints(self.url, wrong)
        page.on("dialog", complaints.dialog)
        page.on("pageerror", complaints.error)
        page.on("console", complaints.line)
        page.on("request", complaints.request)
        try:
            yield page
        finally:
            context.close()
        assert wrong == []

    def stop_broker(self) -> None:
        """End the broker."""
        self.broker.end_group()

    def start_broker(self) -> None:
        """Start it again where it was."""
        self.broker = self.processes.broker(self.database_url, port=self.port).process


def confirm(page: Page, button: str, **fields: str) -> None:
    """Answer the question that is open."""
    box = page.locator("#question")
    expect(box).to_be_visible()
    for label, value in fields.items():
        box.locator(f"[name={label}]").fill(value)
    box.get_by_role("button", name=button, exact=True).click()
    expect(page.locator("main > .said")).to_be_visible()


def started_dashboard(processes: Processes, broker_url: str, *options: str) -> str:
    """Start the dashboard of a broker; its address."""
    command = [sys.executable, "-m", "hyrex.dashboard", "--listen", "127.0.0.1:0", "--broker-url", broker_url]
    process = processes.start("dashboard", *command, *options)
    return process.wait_for(r"dashboard ready: (\S+)/")[1]


@dataclass
class Complaints:
    """What a page must never do."""

    url: str
    wrong: list[str]

    def dialog(self, dialog: Dialog) -> None:
        """A script of a user's opened it."""
        self.wrong.append(f"dialog {dialog.message}")
        dialog.dismiss()

    def error(self, error: Error) -> None:
        """A script of ours failed."""
        self.wrong.append(f"error {error}")

    def line(self, line: ConsoleMessage) -> None:
        """An error, also of the content policy. An answer of 503 is told here too: a broker is away."""
        if line.type == "error" and "503" not in line.text:
            self.wrong.append(line.text)

    def request(self, request: Request) -> None:
        """Something was loaded from elsewhere."""
        if not request.url.startswith(self.url):
            self.wrong.append(request.url)
