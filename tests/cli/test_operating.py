"""What a person who has only a terminal sees of a cluster, and changes in it."""

import fcntl
import json
import os
import pty
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

from hyrex.cli.errors import CommandError
from hyrex.cli.program import program
from tests.integration.service.seeding import Seed
from tests.support.eventually import eventually
from tests.support.postgres import copied_database, run_apart
from tests.support.process import environment
from tests.support.processes import Processes
from tests.support.roles import execute_now

Hyrex = Callable[..., str]
DEAD = 3
MARKUP = "x[/x] :fire:"


@pytest.fixture(scope="module")
def broker_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """A broker for all tests that look, with tasks of every kind."""
    processes = Processes()
    with copied_database(postgres_url, template_database, f"hyrex_operating_{os.getpid()}") as url:
        run_apart(fill(url))
        try:
            yield processes.broker(url).url
        finally:
            processes.end()


async def fill(url: str) -> None:
    async with Seed.connected(url) as seed:
        for _ in range(DEAD):
            labels = '{"tenant": "7"}'
            await seed.run(await seed.task(queue="mail", name="send", labels=labels), 3, error="Timeout")
        await seed.run(await seed.task(queue="mail", name="send"), 3, error="ValueError")
        await seed.ready(await seed.task(queue="nobody's", name="send"))
        await seed.delayed(await seed.task(queue=MARKUP, name="send"), seconds=36_000)
        await seed.run(await seed.task(queue="planted", name="*"), 3, error="Boom")
        await seed.run(await seed.task(queue="planted", name="plain"), 3)
        for error in ("TaskTimeout", None):
            await seed.run(await seed.task(queue="planted", name="it's late"), 4, error=error)


@pytest.fixture
def hyrex(broker_url: str) -> Hyrex:
    """Runs a command in this process; its standard output."""

    def run(*arguments: str, text: str | None = None) -> str:
        done = CliRunner().invoke(
            program, [*arguments, "--broker-url", broker_url], input=text, catch_exceptions=False
        )
        assert done.exit_code == 0, done.output
        return done.stdout

    return run


def test_a_filter_line_lists_what_it_fits(hyrex: Hyrex) -> None:
    listed = json.loads(hyrex("task", "list", "queue:m*", "error:Time*", "label.tenant:7", "--json"))
    assert len(listed["tasks"]) == DEAD
    assert {task["status"] for task in listed["tasks"]} == {"failed"}
    assert "no tasks" in hyrex("task", "list", "label.tenant:7 status:lost")
    assert 'labels: {"tenant": "7"}' in hyrex("task", "get", listed["tasks"][0]["id"])


def test_failures_are_told_by_their_kind_with_the_filter_that_lists_them(hyrex: Hyrex) -> None:
    kinds = json.loads(hyrex("task", "failures", "--json"))["kinds"]
    assert {kind["filter"]: kind["count"] for kind in kinds if kind["filter"]} == {
        "name:send status:failed dead:yes error:Timeout newer:1d": DEAD,
        "name:send status:failed dead:yes error:ValueError newer:1d": 1,
        'name:"\\*" status:failed dead:yes error:Boom newer:1d': 1,
        'name:"it\'s late" status:timed_out dead:yes newer:1d': 2,
    }
    why = {kind["task"]: kind["why_no_filter"] for kind in kinds if not kind["filter"]}
    assert {"plain"} == set(why)
    commands = [
        shlex.split(line)
        for line in hyrex("task", "failures").splitlines()
        if line.startswith("  hyrex task retry --where")
    ]
    assert [command[-1] for command in commands] == [kind["filter"] for kind in kinds if kind["filter"]]
    for *_, line in commands:
        (kind,) = (kind for kind in kinds if kind["filter"] == line)
        assert len(json.loads(hyrex("task", "list", line, "--json"))["tasks"]) == kind["count"]


def test_texts_are_printed_as_they_are_and_not_as_markup(hyrex: Hyrex) -> None:
    assert MARKUP in hyrex("queue", "list")
    assert MARKUP in hyrex("top", "--once")


def test_a_word_that_means_nothing_ends_with_the_remedy(hyrex: Hyrex) -> None:
    with pytest.raises(CommandError, match=r"label\.KEY") as refused:
        hyrex("task", "list", "tenant:7")
    assert refused.value.status == 2


def test_why_says_what_a_task_waits_for(hyrex: Hyrex) -> None:
    (task,) = json.loads(hyrex("task", "list", "status:queued", "--json"))["tasks"]
    assert 'no connected worker serves queue "nobody\'s"' in hyrex("task", "why", task["id"])
    assert json.loads(hyrex("task", "why", task["id"], "--json"))["status"] == "queued"


def test_why_of_what_failed_names_its_error_and_what_to_do(hyrex: Hyrex) -> None:
    (task,) = json.loads(hyrex("task", "list", "status:failed", "error:Boom", "--json"))["tasks"]
    assert hyrex("task", "why", task["id"]).splitlines() == [
        "failed: Boom: Boom",
        f"`hyrex task get {task['id']}` shows its runs, `hyrex task retry {task['id']}` runs it again",
    ]


def test_a_send_says_what_the_task_waits_for(broker_url: str) -> None:
    sent = CliRunner().invoke(program, ["task", "send", "nowhere", "-q", "lost", "--broker-url", broker_url])
    assert sent.exit_code == 0
    assert "it waits: no connected worker serves queue 'lost'" in sent.output
    assert "A workflow is sent by its code, an approval with --outside" in sent.output
    CliRunner().invoke(program, ["queue", "purge", "lost", "--yes", "--broker-url", broker_url])


def test_top_shows_queues_and_what_needs_somebody(hyrex: Hyrex) -> None:
    shown = hyrex("top", "--once")
    assert "nobody's" in shown
    assert "! no connected worker serves queue" in shown
    assert "hyrex run-worker MODULE:APP --queue=" in shown
    frame = json.loads(hyrex("top", "--once", "--json"))
    assert {"mail", "nobody's"} <= {queue["name"] for queue in frame["queues"]}
    assert frame["needs"][0]["kind"] == "queue_not_served"
    assert len(frame["brokers"]) == 1


def test_tail_prints_what_there_is_the_oldest_first(hyrex: Hyrex) -> None:
    lines = hyrex("task", "tail", "queue:mail", "--once", "-n", "2").splitlines()
    assert [line.split()[-1] for line in lines] == ["Timeout", "ValueError"]
    first = hyrex("task", "tail", "queue:mail", "--once", "-n", "1", "--json")
    assert json.loads(first)["queue"] == "mail"


def test_tail_prints_tasks_as_they_come_and_as_they_change(
    broker_url: str, hyrex: Hyrex, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "hyrex.cli", "task", "tail", "queue:later", "-n", "1", "--json"]
    env = environment({"HYREX_BROKER_URL": broker_url, "PYTHONUNBUFFERED": "1"})
    hyrex("task", "send", "first", "-q", "later", "--delay", "3600")
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        first = json.loads(running.stdout.readline())
        assert (first["name"], first["status"]) == ("first", "scheduled")
        hyrex("task", "send", "second", "-q", "later", "--delay", "3600")
        second = json.loads(running.stdout.readline())
        assert second["name"] == "second"
        hyrex("task", "cancel", first["id"])
        changed = json.loads(running.stdout.readline())
        assert (changed["name"], changed["status"]) == ("first", "cancelled")
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 130


def test_a_task_that_did_not_begin_in_time_is_replayed_and_not_retried(broker_url: str, hyrex: Hyrex) -> None:
    sent = json.loads(hyrex("task", "send", "late", "-q", "late", "--expires-in", "0.001", "--json"))

    def ended() -> dict[str, Any] | None:
        task: dict[str, Any] = json.loads(hyrex("task", "get", sent["id"], "--json"))
        return task if task["status"] == "cancelled" else None

    task = eventually(ended)
    assert task is not None
    assert task["expires"]
    assert [run["cause"] for run in task["runs"]] == ["expired"]
    assert "since it did not begin in time" in hyrex("task", "why", sent["id"])
    retried = CliRunner().invoke(program, ["task", "retry", sent["id"], "--broker-url", broker_url])
    assert retried.exit_code == 1
    assert "hyrex task replay" in retried.output
    again = json.loads(hyrex("task", "replay", sent["id"], "--json"))
    assert json.loads(hyrex("task", "get", again["id"], "--json"))["expires"] is None
    hyrex("task", "cancel", again["id"])


def test_a_task_that_no_worker_runs_is_ended_by_a_call(broker_url: str, hyrex: Hyrex) -> None:
    asked: str = json.loads(hyrex("task", "send", "refund", "-q", "desk", "--outside", "--json"))["id"]
    assert f"hyrex task complete {asked}" in hyrex("task", "get", asked)
    assert "waits for a call from outside" in hyrex("task", "why", asked)
    told = hyrex("task", "complete", asked, "--result", "true", "--reason", "ada")
    assert told == f"{asked} ended\n"
    task = json.loads(hyrex("task", "get", asked, "--json"))
    assert (task["status"], task["outside"], task["runs"][0]["result"]) == ("completed", True, True)
    assert task["runs"][0]["reason"] == "ada"
    command = ["task", "complete", asked, "--error", "no", "--broker-url", broker_url]
    again = CliRunner().invoke(program, command)
    assert (again.exit_code, "nothing changed" in again.output) == (1, True)
    unusable = [["--result", each] for each in ("yes", "NaN", "1e999")]
    for wrong in (*unusable, [], ["--result", "1", "--error", "no"]):
        with pytest.raises(CommandError, match="--result"):
            hyrex("task", "complete", asked, *wrong)


def test_bulk_forms_count_ask_and_follow_to_the_end(hyrex: Hyrex) -> None:
    dry = json.loads(hyrex("task", "retry", "--where", "error:Timeout", "--dry-run", "--json"))
    assert (dry["count"], dry["more"]) == (DEAD, False)
    with pytest.raises(CommandError, match="by their ids"):
        hyrex("task", "retry", "--dry-run")
    with pytest.raises(CommandError, match="not by both"):
        hyrex("task", "retry", "0198a0c4-0000-7000-8000-00000000000a", "--where", "error:Timeout")
    assert hyrex("task", "retry", "--where", "error:Timeout", text="y\n").endswith(
        f"{DEAD} tasks queued again (done)\n"
    )
    ended = json.loads(hyrex("task", "cancel", "--where", "queue:mail", "--yes", "--json"))
    assert (ended["action"], ended["state"], ended["done"]) == ("cancel", "done", DEAD)
    assert "no tasks" in hyrex("task", "list", "queue:mail", "status:queued")
    listed = json.loads(hyrex("bulk", "list", "--json"))["operations"]
    assert [(each["action"], each["filter"], each["done"]) for each in listed] == [
        (
            "cancel",
            "queue:mail status:queued status:scheduled status:retrying status:running status:blocked",
            DEAD,
        ),
        ("retry", "status:failed status:timed_out dead:yes error:Timeout", DEAD),
    ]
    assert "error:Timeout" in hyrex("bulk", "list")
    assert hyrex("bulk", "stop", listed[0]["id"]) == f"done: {DEAD} tasks are done\n"


def test_a_broker_is_drained_by_its_own_address_only(processes: Processes, database_url: str) -> None:
    broker = processes.broker(database_url)
    several = ["broker", "drain", "--yes", "--broker-url", f"{broker.url},{broker.url}"]
    with pytest.raises(CommandError, match="the one broker"):
        CliRunner().invoke(program, several, catch_exceptions=False)
    done = CliRunner().invoke(program, ["broker", "drain", "--broker-url", broker.url], input="y\n")
    assert done.exit_code == 0
    assert broker.process.wait() == 0


def test_a_probe_of_health_needs_no_token_and_fails_while_a_broker_does_not_serve(
    processes: Processes, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = processes.broker(database_url, env={"HYREX_TOKEN": "secret"})
    monkeypatch.setenv(
        "HYREX_TOKEN_FILE", "/nowhere/two-tokens-one-a-line"
    )  # a broker's own, in its container
    probe = ["broker", "health", "--timeout", "60", "--broker-url"]

    def ask(url: str) -> str:
        return CliRunner().invoke(program, [*probe, url], catch_exceptions=False).stdout

    def failure(url: str) -> str:
        try:
            return f"none: {ask(url)}"
        except CommandError as error:
            return str(error)

    assert ask(broker.url) == f"{broker.url} serves\n"
    assert failure(f"{broker.url},{broker.url}").startswith("name the one broker")
    execute_now(
        database_url,
        f"alter database {urlsplit(database_url).path[1:]} set default_transaction_read_only = on",
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()",
    )
    eventually(lambda: "does not serve: it drains, or its database is away" in failure(broker.url))
    assert broker.process.terminate() == 0
    assert failure(broker.url).startswith(f"no answer from {broker.url}")


def test_a_shell_completes_commands(tmp_path: Path) -> None:
    program_file = Path(sys.executable).with_name("hyrex")
    script = subprocess.run(
        [program_file, "--show-completion", "bash"],
        cwd=tmp_path, env=environment({}), capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    assert "_HYREX_COMPLETE=complete_bash" in script
    asked = {"_HYREX_COMPLETE": "complete_bash", "COMP_WORDS": "hyrex task t", "COMP_CWORD": "2"}
    done = subprocess.run(
        [program_file], cwd=tmp_path, env=environment(asked), capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip
    assert done.stdout.split() == ["tail"]


def test_top_is_a_stream_of_lines_where_there_is_no_terminal(broker_url: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hyrex.cli", "top", "--json", "--broker-url", broker_url]
    with subprocess.Popen(command, cwd=tmp_path, env=environment({}), stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        frames = [json.loads(running.stdout.readline()) for _ in range(2)]
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 130
    assert frames[0]["at"] < frames[1]["at"]


def test_top_draws_on_a_terminal_and_leaves_it_as_it_was(broker_url: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hyrex.cli", "top", "--broker-url", broker_url]
    reader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    # xdist sets COLUMNS, which would count more than the terminal's own size.
    env = environment({"TERM": "xterm-256color", "COLUMNS": "160", "LINES": "40"})
    running = subprocess.Popen(command, cwd=tmp_path, env=env, stdin=terminal, stdout=terminal)
    try:
        os.close(terminal)
        shown = b""
        while MARKUP.encode() not in shown:
            assert select.select([reader], [], [], 60)[0], shown
            shown += os.read(reader, 65536)
        running.send_signal(signal.SIGINT)
        # Read to the end first: what nobody reads keeps a program from ending.
        with suppress(OSError):  # the terminal is gone
            while select.select([reader], [], [], 60)[0]:
                shown += os.read(reader, 65536)
        assert running.wait(60) == 130
    finally:
        running.kill()
        running.wait(60)
        os.close(reader)
    assert b"\x1b[?1049h" in shown
    assert b"\x1b[?1049l" in shown
