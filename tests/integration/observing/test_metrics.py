"""What brokers and workers show to Prometheus is what happened, under the names that the reference lists."""

import re
import select
import socket
import sys
from contextlib import closing
from http.client import HTTPConnection
from typing import Final

import psutil
import pytest

from hyrex import TaskHandle
from hyrex.client.process import close_client
from hyrex.runtime.metrics_server import MOST_SCRAPES, address_of
from tests.integration.observing import app
from tests.integration.observing.scrape import Scrape, scrape, url_of
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.process import ROOT
from tests.support.processes import Processes, RunningBroker, StartBroker, StartWorker

APP: Final = "tests.integration.observing.app:app"
PAGE: Final = ROOT / "docs" / "reference" / "metrics.md"
PATIENCE_S: Final = 60.0
SLACK: Final = 8
"""Threads that a broker may start for other reasons meanwhile."""


def listed() -> dict[str, str]:
    """Names and types of the metrics on the reference page."""
    return dict(re.findall(r"^- `(hyrex_\w+)` \((\w+)", PAGE.read_text(encoding="utf-8"), re.MULTILINE))


def shown(page: Scrape) -> dict[str, str]:
    """Names and types of ours in a scrape, as they are queried."""
    ours = {name: kind for name, kind in page.types.items() if name.startswith("hyrex_")}
    return {f"{name}_total" if kind == "counter" else name: kind for name, kind in ours.items()}


def test_a_scrape_tells_what_was_submitted_ran_failed_was_lost_and_was_cancelled(
    observed_broker: RunningBroker, start_worker: StartWorker
) -> None:
    worker = start_worker(
        APP, "-p", "1", "-q", "shop", "--metrics", "127.0.0.1:0", broker_url=observed_broker.url
    )
    paid = [app.pay.send(n) for n in range(30)]
    ends: list[TaskHandle[None]] = [app.refuse.send(), app.refuse_for_good.send()]
    assert all(handle.wait(PATIENCE_S) for handle in paid)
    assert not any(handle.wait(PATIENCE_S) for handle in ends)
    waiting = [app.wait_here.send() for _ in range(3)]
    waiting[0].cancel()
    page, of_worker = scrape(url_of(observed_broker.process)), scrape(url_of(worker))
    expect_of_tasks(page)
    expect_of_broker(page)
    expect_of_worker(of_worker)
    app.vanish.send()
    eventually(lambda: scrape(url_of(worker)).value("hyrex_worker_children_died_total") == 1, PATIENCE_S)
    lost = {"task": "vanish", "outcome": "lost"}
    broker_url = url_of(observed_broker.process)
    eventually(lambda: scrape(broker_url).value("hyrex_runs_ended_total", **lost) >= 1, PATIENCE_S)
    # Those of a replica are there where one is named: faults/test_read_replica; those of a gateway: gateway.
    elsewhere = ("hyrex_replica_", "hyrex_gateway_")
    told = {name: kind for name, kind in listed().items() if not name.startswith(elsewhere)}
    assert told != listed()
    assert shown(page) | shown(of_worker) == told


def expect_of_tasks(page: Scrape) -> None:
    """What became of the tasks."""
    assert page.value("hyrex_tasks_submitted_total", queue="shop", task="pay") == 30
    assert page.value("hyrex_tasks_ended_total", queue="shop", task="pay", outcome="completed") == 30
    assert page.value("hyrex_runs_ended_total", task="refuse", outcome="failed") == 2
    assert page.value("hyrex_tasks_ended_total", task="refuse", outcome="failed") == 1
    assert page.value("hyrex_runs_ended_total", task="refuse_for_good", outcome="failed") == 1
    assert page.value("hyrex_tasks_ended_total", queue="nowhere", outcome="cancelled") == 1
    assert page.value("hyrex_run_seconds_count", task="pay") == 30
    assert page.value("hyrex_run_seconds_count", task="refuse") == 2
    assert page.value("hyrex_queue_wait_seconds_count", task="pay") == 30
    assert page.value("hyrex_queue_wait_seconds_bucket", task="pay", le="+Inf") == 30
    assert 0 < page.value("hyrex_tasks_handed_off_total", task="pay") <= 30


def expect_of_broker(page: Scrape) -> None:
    """What the broker has and does."""
    assert page.value("hyrex_sessions") == 1
    assert page.value("hyrex_slots") == 1 + 100  # of sync and of async tasks
    assert page.value("hyrex_database_up") == 1
    assert "hyrex_replication_synchronous" in page.types
    assert page.value("hyrex_replication_synchronous") == 0
    assert page.value("hyrex_database_connections", pool="hot") >= 1
    assert page.value("hyrex_statement_seconds_count", statement="report.report_completed") >= 1
    assert page.value("hyrex_batch_items_sum", batch="submit") == 35
    assert page.value("process_resident_memory_bytes") > 0


def expect_of_worker(of_worker: Scrape) -> None:
    """What the worker has done."""
    assert of_worker.value("hyrex_worker_runs_ended_total", outcome="completed") == 30
    assert of_worker.value("hyrex_worker_runs_ended_total", outcome="failed") == 3
    assert of_worker.value("hyrex_worker_run_seconds_count") == 33
    assert of_worker.value("hyrex_worker_connected") == 1
    assert of_worker.value("hyrex_worker_slots", pool="sync") == 1
    assert of_worker.value("hyrex_worker_slots_busy") == 0
    assert of_worker.value("hyrex_worker_children_died_total") == 0


def test_one_of_several_brokers_reads_what_waits(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = start_broker()
    monkeypatch.setenv("HYREX_BROKER_URL", plain.url)
    for _ in range(3):
        app.wait_here.send()
    app.wait_here.with_config(delay=3600).send()
    close_client()
    first, second = (start_broker("--metrics", "127.0.0.1:0") for _ in range(2))
    urls = [url_of(each.process) for each in (first, second)]
    eventually(lambda: scrape(urls[0]).value("hyrex_depths_elected") == 1, PATIENCE_S)
    page = scrape(urls[0])
    assert page.value("hyrex_queue_ready", queue="nowhere") == 3
    assert page.value("hyrex_queue_delayed", queue="nowhere") == 1
    assert page.value("hyrex_queue_oldest_ready_seconds", queue="nowhere") > 0
    other = scrape(urls[1])
    assert other.value("hyrex_depths_elected") == other.value("hyrex_queue_ready") == 0
    assert "metrics" not in plain.process.output


def test_each_of_several_processes_has_a_port_of_its_own(start_broker: StartBroker) -> None:
    port = free_ports(2)
    broker = start_broker("--processes", "2", "--metrics", f"127.0.0.1:{port}", port=free_port())
    broker.process.wait_for(r"broker metrics: \S+", times=2)
    names = [
        scrape(f"http://127.0.0.1:{port + n}/metrics").labels("hyrex_broker_info", "name") for n in (0, 1)
    ]
    assert sorted(name.rpartition("-")[2] for found in names for name in found) == ["0", "1"]


def test_an_address_that_is_taken_or_no_address_is_said_in_one_line(
    processes: Processes, broker: RunningBroker, database_url: str
) -> None:
    taken = f"127.0.0.1:{broker.address.rpartition(':')[2]}"
    command = [sys.executable, "-m", "hyrex_broker", "--listen", "127.0.0.1:0", "--metrics"]
    env = {"HYREX_DATABASE_URL": database_url}
    refused = processes.start("broker", *command, taken, env=env)
    assert refused.wait(PATIENCE_S) == 5
    assert f"--metrics {taken} cannot be listened on: Address already in use" in refused.output
    unknown = processes.start("broker", *command, "here", env=env)
    assert unknown.wait(PATIENCE_S) == 2
    assert "--metrics here: use HOST:PORT" in unknown.output
    worker = [sys.executable, "-m", "hyrex.worker", APP, "--metrics", taken]
    at_worker = processes.start("worker", *worker, env={"HYREX_BROKER_URL": broker.url})
    assert at_worker.wait(PATIENCE_S) == 2
    assert f"--metrics {taken} cannot be listened on" in at_worker.output


def test_a_name_that_a_foreign_page_can_have_is_answered_only_if_it_was_given(
    start_broker: StartBroker,
) -> None:
    """A page of another site could make its name point to this port, and read it with a browser."""
    url = url_of(start_broker("--metrics", "127.0.0.1:0,Metrics.example.org").process)
    port = re.findall(r":(\d+)/", url)[0]

    def status(host: str) -> int:
        connection = HTTPConnection("127.0.0.1", int(port), timeout=PATIENCE_S)
        with closing(connection):
            connection.request("GET", "/metrics", headers={"Host": host})
            return connection.getresponse().status

    own = ("localhost", f"localhost:{port}", "127.0.0.1", "[::1]:1", "broker:9464", "metrics.example.org.")
    foreign = ("evil.example.org", f"evil.example:{port}", "127.0.0.1.example.org", "a@localhost", "a/b")
    expected = dict.fromkeys(own, 200) | dict.fromkeys(foreign, 421)
    assert {host: status(host) for host in (*own, *foreign)} == expected


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9464", ("127.0.0.1", 9464, ())),
        (":0", ("127.0.0.1", 0, ())),
        ("[::]:9464", ("::", 9464, ())),
        ("0.0.0.0:1,a.example,b", ("0.0.0.0", 1, ("a.example", "b"))),
    ],
)
def test_an_address_is_read_as_it_is_written(text: str, address: tuple[object, ...]) -> None:
    assert address_of(text) == address
    assert address_of(str(address_of(text))) == address


@pytest.mark.parametrize("text", ["here", "1,", "1,a/b", "1,a:2", "1,user@a", "70000"])
def test_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--metrics"):
        address_of(text)


def test_readers_that_never_read_keep_few_threads_and_block_nobody_for_long(
    observed_broker: RunningBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = url_of(observed_broker.process)
    port = int(re.findall(r":(\d+)/", url)[0])
    process = psutil.Process(observed_broker.process.pid)
    tied = next(each for each in [process, *process.children(recursive=True)] if _listens(each, port))
    before = tied.num_threads()
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(50)]
    try:
        for each in idle:
            each.sendall(b"GET /metrics HT")
        waiting, most = idle[MOST_SCRAPES:], before
        while waiting:
            closed, _, _ = select.select(waiting, [], [], 0.02)
            waiting = [each for each in waiting if each not in closed]
            most = max(most, tied.num_threads())
        assert most <= before + MOST_SCRAPES + SLACK
        assert app.pay.send(1).id
    finally:
        for each in idle:
            each.close()
    eventually(lambda: scrape_or_none(url), PATIENCE_S)


def scrape_or_none(url: str) -> Scrape | None:
    """A scrape, unless all places are taken."""
    try:
        return scrape(url)
    except OSError:
        return None


def _listens(process: psutil.Process, port: int) -> bool:
    return any(
        each.laddr.port == port
        for each in process.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN
    )


def free_ports(count: int) -> int:
    """The first of some free ports that follow each other."""
    while True:
        first = free_port()
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
