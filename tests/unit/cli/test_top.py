"""What `hyrex top` draws."""

from datetime import UTC, datetime, timedelta

from rich.console import Console

from hyrex.cli.top import picture
from hyrex.cli.wire import cluster_values
from hyrex.v1 import admin_service_pb2 as admin
from hyrex.v1 import queue_service_pb2

AT = datetime(2026, 11, 27, 12, tzinfo=UTC)


def drawn(width: int, blocked: int = 0) -> str:
    """A frame with a long name, a limit and large numbers."""
    frame = admin.WatchClusterResponse()
    frame.at.FromDatetime(AT)
    queue = queue_service_pb2.Queue(
        name="invoices.of.a.long.name",
        queued=1000,
        queued_capped=True,
        delayed=100_000,
        running=25,
        blocked=blocked,
    )
    queue.concurrency_limit = 250
    activity = frame.queues.add(queue=queue, submitted_per_s=1234.5, completed_per_s=1200, failed_per_s=34.5)
    activity.oldest_ready_at.FromDatetime(AT - timedelta(minutes=90))
    worker = frame.workers.add(session=admin.WorkerSession(worker_name="worker-of-a-long-name", slots=16))
    worker.session.queue_patterns.extend(["mail", "invoices.*", "reports"])
    run = worker.runs.add(name="make_monthly_report", queue="reports")
    run.since.FromDatetime(AT - timedelta(seconds=12))
    console = Console(width=width, highlight=False, markup=False)
    with console.capture() as captured:
        console.print(picture(cluster_values(frame), width))
    return captured.get()


def test_eighty_columns_show_every_heading_and_number_whole() -> None:
    shown = drawn(80)
    assert max(map(len, shown.splitlines())) <= 80
    for heading in (
        "queued",
        "delayed",
        "running",
        "oldest",
        "in/s",
        "done/s",
        "failed/s",
        "fetched",
        "slots",
    ):
        assert heading in shown
    for value in (
        "1000+",
        "100000",
        "25/250",
        "90 min",
        "1234.5",
        "1200.0",
        "34.5",
        "no worker",
        "invoices",
        "make_",
    ):
        assert value in shown, value


def test_what_is_blocked_is_told_where_something_is() -> None:
    assert "blocked" not in drawn(140)
    assert "7 blocked" in drawn(140, blocked=7)


def test_a_wide_screen_shows_names_whole() -> None:
    shown = drawn(140)
    for name in ("invoices.of.a.long.name", "worker-of-a-long-name", "mail, invoices.*, reports"):
        assert name in shown
