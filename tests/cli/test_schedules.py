"""The recipe of docs/howto/schedules.md with a broker and a worker, and `hyrex schedule` beside them."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hyrex import CallRejected, HyrexRegistry
from hyrex.by_id import get_task
from hyrex.cli.program import program
from hyrex.client.process import close_client
from tests.integration.sdk.test_documented_code import blocks
from tests.support.eventually import eventually
from tests.support.processes import StartBroker, StartWorker

NAME = "nightly_report"
WITHIN_S = 60.0
Hyrex = Callable[..., Any]


@pytest.fixture
def hyrex(
    start_broker: StartBroker, start_worker: StartWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hyrex]:
    """`hyrex schedule`, whose worker serves the recipe."""
    (tmp_path / "reports.py").write_text(blocks("docs/howto/schedules.md")[0])
    broker = start_broker()
    start_worker("reports:app", broker_url=broker.url, env={"HYREX_APP_DIR": str(tmp_path)})
    monkeypatch.setenv("HYREX_BROKER_URL", broker.url)

    def run(*arguments: str, status: int = 0) -> Any:
        done = CliRunner().invoke(program, ["schedule", *arguments, "--json"])
        assert done.exit_code == status, done.output
        return json.loads(done.stdout) if not status else done.output

    eventually(lambda: run("list")["schedules"], within_s=WITHIN_S)
    yield run
    close_client()


def test_the_recipe_is_declared_triggered_filled_and_paused(hyrex: Hyrex) -> None:
    (shown,) = hyrex("list")["schedules"]
    assert [shown[each] for each in ("name", "queue", "cron", "tz", "source", "paused")] == [
        NAME, "reports", "0 3 * * *", "Europe/Berlin", "code", False,
    ]  # fmt: skip

    triggered = get_task(hyrex("trigger", NAME)["id"])
    assert triggered.result(WITHIN_S).startswith("report of 20")

    spring = hyrex("backfill", NAME, "2024-03-30", "2024-04-02", "--dry-run")
    slots = ["2024-03-30T02:00:00+00:00", "2024-03-31T01:00:00+00:00", "2024-04-01T01:00:00+00:00"]
    assert (spring["stored"], [each["slot"] for each in spring["slots"]]) == (3, slots)
    stored = hyrex("backfill", NAME, "2024-03-30", "2024-04-02")["slots"]
    results = [get_task(each["id"]).result(WITHIN_S) for each in stored]
    assert results == [f"report of {day}" for day in ("2024-03-30", "2024-03-31", "2024-04-01")]
    assert hyrex("backfill", NAME, "2024-03-30", "2024-04-02")["stored"] == 0

    assert hyrex("pause", NAME)["paused"]
    assert hyrex("resume", NAME)["next"] > datetime.now(UTC).isoformat()
    assert "no time" in hyrex("backfill", NAME, "yesterday", status=2)
    hyrex("delete", NAME)
    assert hyrex("list")["schedules"] == []


async def test_a_program_changes_schedules_blocking_and_not(hyrex: Hyrex) -> None:
    hy = HyrexRegistry()

    @hy.task(queue="reports")
    def nightly_report(day: str | None = None) -> str:
        raise NotImplementedError

    made = await hy.schedules.put_async(
        "ada", nightly_report.call("2026-01-01"), "@daily", tz="Asia/Tokyo", catch_up="all", jitter=30
    )
    assert (made.name, made.task_name, made.tz, made.catch_up) == ("ada", NAME, "Asia/Tokyo", "all")
    assert (made.jitter, made.source) == (timedelta(seconds=30), "operator")
    assert len(made.next_slots) == 3
    assert await (await hy.schedules.trigger_async("ada")).result_async(WITHIN_S) == "report of 2026-01-01"
    assert (await hy.schedules.pause_async("ada")).paused
    assert [each.name for each in await hy.schedules.list_async()] == ["ada", NAME]
    start = datetime(2024, 3, 28, tzinfo=UTC)
    found = await hy.schedules.backfill_async("ada", start, start + timedelta(days=2), dry_run=True)
    assert [(each.slot.hour, each.task_id) for each in found] == [(15, "")] * 2
    await hy.schedules.delete_async("ada")
    with pytest.raises(CallRejected, match="no schedule 'ada'"):
        await hy.schedules.resume_async("ada")
