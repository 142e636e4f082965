"""`hyrex outbox list | retry | dismiss` with a broker, and what the other commands say of refused rows."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hyrex.by_id import get_task
from hyrex.cli.program import program
from hyrex.client.process import close_client
from tests.support.eventually import eventually
from tests.support.postgres import connect, run_apart
from tests.support.processes import RunningBroker, StartBroker

Hyrex = Callable[..., Any]


@pytest.fixture
def hyrex(broker: RunningBroker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hyrex]:
    """The program, at a broker."""
    monkeypatch.setenv("HYREX_BROKER_URL", broker.url)

    def run(*arguments: str, status: int = 0, answer: str = "") -> str:
        done = CliRunner().invoke(program, arguments, input=answer, env={"COLUMNS": "200"})
        assert done.exit_code == status, done.output
        return done.output

    yield run
    close_client()


def enqueued(database_url: str, *options: str, queue: str = "shop") -> list[str]:
    """Enqueue tasks, then give them these options, which their owner may write to the table; their ids."""

    async def insert() -> list[str]:
        connection = await connect(database_url)
        ids = []
        async with connection.transaction():
            for each in options:
                made = await connection.fetchval("select hyrex.enqueue('charge', '{\"n\": 1}', $1)", queue)
                await connection.execute("update hyrex.outbox set options = $1 where id = $2", each, made)
                ids.append(str(made))
        await connection.close()
        return ids

    return run_apart(insert())


def refused(hyrex: Hyrex, *ids: str) -> None:
    """Wait until these are."""

    def listed() -> set[str]:
        return {row["id"] for row in json.loads(hyrex("outbox", "list", "--json"))["rows"]}

    eventually(lambda: listed() >= set(ids), within_s=60)


def test_refused_rows_are_listed_mended_and_dismissed(hyrex: Hyrex, database_url: str) -> None:
    assert "no refused rows" in hyrex("outbox", "list")
    first, second, third = enqueued(database_url, '{"later": 1}', '{"later": 2}', '{"priority": 99}')
    refused(hyrex, first, second, third)
    shown = hyrex("outbox", "list", "--queue", "shop")
    assert "this broker does not know option 'later'; update the brokers" in shown
    assert "hyrex outbox retry ID" in shown
    page = json.loads(hyrex("outbox", "list", "--json", "--limit", "1"))
    options = {first: {"later": 1}, second: {"later": 2}, third: {"priority": 99}}
    by_id = sorted(options, reverse=True)  # of one millisecond, maybe
    assert [row["id"] for row in page["rows"]] == by_id[:1]
    assert page["rows"][0]["options"] == options[by_id[0]]
    rest = json.loads(hyrex("outbox", "list", "--json", "--page", page["next_page"]))
    assert [row["id"] for row in rest["rows"]] == by_id[1:]

    assert "refused   this broker does not know" in hyrex("outbox", "retry", first, status=1)
    assert "relayed" in hyrex("outbox", "retry", first, "--options", '{"priority": 2}', "--to-queue", "late")
    assert "not_found" in hyrex("outbox", "retry", first, status=1)
    task = json.loads(hyrex("task", "get", first, "--json"))
    assert (task["queue"], task["priority"], task["waiting_for"]) == (
        "late", 2, "no connected worker serves queue 'late'",
    )  # fmt: skip
    said = json.loads(hyrex("outbox", "retry", "--all", "--task", "charge", "--json", status=1))
    assert {each["id"]: each["outcome"] for each in said["results"]} == {second: "refused", third: "refused"}
    assert "Remove 2 refused rows" in hyrex("outbox", "dismiss", "--all", status=1, answer="n\n")
    assert "dismissed" in hyrex("outbox", "dismiss", second)
    assert json.loads(hyrex("outbox", "dismiss", "--all", "--yes", "--json"))["results"] == [
        {"id": third, "outcome": "dismissed", "reason": None}
    ]
    assert "no refused rows" in hyrex("outbox", "dismiss", "--all")


def test_the_payload_of_a_row_may_come_from_a_file(hyrex: Hyrex, database_url: str, tmp_path: Path) -> None:
    (row_id,) = enqueued(database_url, '{"later": 1}')
    refused(hyrex, row_id)
    (tmp_path / "payload.json").write_text('{"n": 2}')
    change = ("--payload-file", str(tmp_path / "payload.json"), "--options", "{}")
    assert "relayed" in hyrex("outbox", "retry", row_id, *change)
    assert json.loads(hyrex("task", "get", row_id, "--json"))["payload"] == {"n": 2}
    assert "No such file" in hyrex("outbox", "retry", row_id, "--payload-file", "none.json", status=2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("retry",), "name the IDs of rows"),
        (("dismiss", "--all", "0190a6f0-0000-7000-8000-000000000000"), "name the IDs of rows"),
        (("retry", "0190a6f0-0000-7000-8000-000000000000", "--queue", "a"), "choose among --all"),
        (("retry", "--all", "--options", "{}"), "are for one ID"),
        (("retry", "nonsense"), "must be a UUID"),
        (("retry", "0190a6f0-0000-7000-8000-000000000000", "--options", '{"later": 1}'), "later"),
        (("list", "--queue", "x" * 256), "queue"),
    ],
)
def test_what_cannot_be_done_is_said(hyrex: Hyrex, arguments: tuple[str, ...], words: str) -> None:
    done = CliRunner().invoke(program, ["outbox", *arguments])
    said = done.output if done.exception is None else f"{done.output} {done.exception}"
    assert done.exit_code != 0
    assert words in said


def test_a_handle_and_doctor_say_that_a_row_was_refused(hyrex: Hyrex, database_url: str) -> None:
    (row_id,) = enqueued(database_url, '{"later": 1}')
    refused(hyrex, row_id)
    handle = get_task(row_id)
    handle.refresh()
    assert (handle.status, handle.task_name) == ("queued", "charge")
    assert "was refused, since no task can be made of it" in handle.waiting_for
    assert "its row in the outbox was refused" in hyrex("task", "why", row_id)
    for command in (("task", "retry"), ("task", "dismiss"), ("task", "replay"), ("workflow", "get")):
        done = CliRunner().invoke(program, [*command, row_id], env={"COLUMNS": "200"})
        told = f"{done.output} {done.exception}"
        assert (done.exit_code, f"`hyrex outbox retry {row_id}`" in told) == (1, True), told
    findings = {each["what"]: each for each in json.loads(hyrex("doctor", "--json", status=1))["findings"]}
    (found,) = (each for what, each in findings.items() if what.endswith(" outbox"))
    assert found["found"].startswith("1 refused row; the newest, of charge: this broker does not know")
    assert "hyrex outbox list" in found["remedy"]
    hyrex("outbox", "dismiss", row_id)


def test_rows_of_a_database_beside_are_there_where_the_broker_takes_its_outbox(
    start_broker: StartBroker, empty_database_url: str, monkeypatch: pytest.MonkeyPatch, hyrex: Hyrex
) -> None:
    hyrex("outbox", "install", "--outbox-url", empty_database_url)
    (row_id,) = enqueued(empty_database_url, '{"priority": 1.5}', queue="beside")
    monkeypatch.setenv("HYREX_BROKER_URL", start_broker("--outbox-url", empty_database_url).url)
    refused(hyrex, row_id)
    (row,) = json.loads(hyrex("outbox", "list", "--json"))["rows"]
    assert (row["beside"], row["queue"], row["task"]) == (True, "beside", "charge")
    assert "it cannot be carried (its option priority" in hyrex("task", "get", row_id)
    assert "relayed" in hyrex("outbox", "retry", row_id, "--options", '{"priority": 1}')
    assert json.loads(hyrex("task", "get", row_id, "--json"))["queue"] == "beside"


def test_all_is_not_said_to_be_done_while_the_database_beside_is_away(
    start_broker: StartBroker, empty_database_url: str, monkeypatch: pytest.MonkeyPatch, hyrex: Hyrex
) -> None:
    hyrex("outbox", "install", "--outbox-url", empty_database_url)
    (row_id,) = enqueued(empty_database_url, '{"priority": 1.5}', queue="beside")
    monkeypatch.setenv("HYREX_BROKER_URL", start_broker("--outbox-url", empty_database_url).url)
    refused(hyrex, row_id)
    only = ("--all", "--queue", "beside")
    assert row_id in hyrex("outbox", "retry", *only, status=1)

    async def remove() -> None:
        connection = await connect(empty_database_url)
        await connection.execute("drop schema hyrex cascade")
        await connection.close()

    run_apart(remove())
    for verb in (("retry",), ("dismiss", "--yes")):
        told = hyrex("outbox", *verb, *only, status=1)
        assert "database beside the brokers' does not answer: its rows are missing" in told
        assert row_id not in told
