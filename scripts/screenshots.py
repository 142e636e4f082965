"""Pictures of the dashboard in front of a shop under load: a real broker, worker and Chromium.

They are written to docs/images as PNG, under 150 KB each.
"""

import os
import random
import shutil
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "broker"))

from PIL import Image  # noqa: E402  # after the path of this clone
from playwright.sync_api import Browser, sync_playwright  # noqa: E402

from hyrex_broker.embedded import EmbeddedPostgres  # noqa: E402
from tests.dashboard.chromium import PHONE, chromium, started_dashboard  # noqa: E402
from tests.dashboard.shop import Shop  # noqa: E402
from tests.dashboard.shop_app import daily_report  # noqa: E402
from tests.support.ports import free_port  # noqa: E402
from tests.support.postgres import migrate_now  # noqa: E402
from tests.support.processes import Processes  # noqa: E402

LOAD_S: Final = float(sys.argv[1]) if len(sys.argv) > 1 else 300.0
IMAGES: Final = ROOT / "docs" / "images"
LARGEST_BYTES: Final = 150 * 1024
DESKTOP: Final[dict[str, Any]] = {"viewport": {"width": 1280, "height": 860}}


def main() -> None:
    """Run the shop, then take the pictures."""
    processes = Processes()
    with EmbeddedPostgres(durable=False) as postgres, tempfile.TemporaryDirectory(prefix="shop-") as folder:
        migrate_now(postgres.url)
        try:
            shop = Shop.at(processes, processes.broker(postgres.url, "--name", "broker-1", port=free_port()))
            start_workers(processes, shop.url, Path(folder))
            url = started_dashboard(processes, shop.url)
            failed, flow = prepare(shop), workflow(shop)
            over = threading.Event()
            with ThreadPoolExecutor(1) as beside, sync_playwright() as playwright:
                sending = beside.submit(load, shop, over)
                time.sleep(LOAD_S)
                browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
                try:
                    take_all(browser, url, failed, flow)
                finally:
                    over.set()
                browser.close()
                sending.result()
        finally:
            processes.end()


def start_workers(processes: Processes, url: str, folder: Path) -> None:
    """Two workers, from a folder of their own: tracebacks show it."""
    shutil.copy(ROOT / "tests" / "dashboard" / "shop_app.py", folder / "tasks.py")
    paths = os.pathsep.join([str(folder), str(ROOT), str(ROOT / "broker")])
    for name, queues in (("worker-1", "mail,billing,images"), ("worker-2", "images,reports,billing")):
        served = [part for queue in queues.split(",") for part in ("-q", queue)]
        processes.worker(
            url, "tasks:app", "-p", "3", "--name", name, *served, env={"PYTHONPATH": paths}, cwd=folder
        )


def workflow(shop: Shop) -> str:
    """A workflow of which a part fails; its id."""
    os.environ["HYREX_BROKER_URL"] = shop.url
    return str(daily_report.send(7, 24, 0.5).id)


def prepare(shop: Shop) -> str:
    """Tasks to look at; the id of one that fails."""
    failed = shop.send("charge_card", b'{"order": 7, "cents": 1290}', queue="billing", max_retries=2)
    for customer in range(40):
        shop.send("export_orders", b'{"customer": %d}' % customer, queue="exports")
    shop.send("monthly_report", b'{"month": "2026-10"}', queue="reports")
    return failed


def load(shop: Shop, over: threading.Event) -> None:
    """Send until it is over, now more and now less."""
    draw, round_ = random.Random(7), 0
    while not over.wait(0.4):
        round_ += 1
        for number in range(draw.randrange(2, 14) + (20 if round_ % 60 > 50 else 0)):
            send_one(shop, draw, round_ * 100 + number)


def send_one(shop: Shop, draw: random.Random, number: int) -> None:
    """One of the shop's tasks."""
    labels = {"tenant": str(draw.randrange(1, 9))}
    kind = draw.random()
    if kind < 0.6:
        bad = ".bad" if draw.random() < 0.04 else ""
        payload = b'{"to": "user%d@example.org%s"}' % (number, bad.encode())
        shop.send("send_welcome", payload, queue="mail", labels=labels)
    elif kind < 0.96:
        shop.send("charge_card", b'{"order": %d, "cents": 990}' % number, queue="billing", labels=labels)
    else:
        seconds = b"%.1f" % draw.uniform(0.1, 1.2)
        payload = b'{"image": "photo%d.jpg", "seconds": %s}' % (number, seconds)
        shop.send("resize", payload, queue="images", labels=labels)


def take_all(browser: Browser, url: str, failed: str, flow: str) -> None:
    """Every picture."""
    IMAGES.mkdir(exist_ok=True)
    for name, address, theme, shape in (
        ("overview-light", "/?span=15m", "light", DESKTOP),
        ("overview-dark", "/?span=15m", "dark", DESKTOP),
        ("overview-phone", "/?span=15m", "light", PHONE),
        ("failures-light", "/failures", "light", DESKTOP),
        ("queues-light", "/queues", "light", DESKTOP),
        ("failures-phone", "/failures", "dark", PHONE),
        ("tasks-light", "/tasks?filter=status%3Afailed", "light", DESKTOP),
        ("tasks-phone", "/tasks", "dark", PHONE),
        ("task-dark", f"/task?id={failed}", "dark", DESKTOP),
        ("queue-light", "/queue?name=images&span=15m", "light", DESKTOP),
        ("workers-dark", "/workers", "dark", DESKTOP),
        ("workflow-light", f"/workflow?id={flow}", "light", DESKTOP),
        ("workflow-phone", f"/workflow?id={flow}", "dark", PHONE),
    ):
        take(browser, url + address, IMAGES / f"dashboard-{name}.png", theme, shape)


def take(browser: Browser, address: str, path: Path, theme: Any, shape: dict[str, Any]) -> None:
    """One picture, once the page follows the cluster."""
    context = browser.new_context(color_scheme=theme, **shape)
    page = context.new_page()
    page.goto(address)
    page.locator("live-state[data-state=live]").wait_for()
    with tempfile.TemporaryDirectory() as scratch:
        raw = Path(scratch, "page.png")
        page.screenshot(path=raw)
        taken = Image.open(raw).convert("RGB")
        # Of few colours, and the rare ones among them: the dot that says "live" is green.
        taken.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)
    context.close()
    size = path.stat().st_size
    print(f"{path.relative_to(ROOT)} {size / 1024:.0f} KiB")
    assert size < LARGEST_BYTES, f"{path} is too large"


if __name__ == "__main__":
    main()
