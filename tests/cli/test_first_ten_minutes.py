"""A stranger's first ten minutes, played with the real command line in a folder of its own."""

import json
import re
from urllib.parse import urlsplit
from urllib.request import urlopen

from tests.cli.shop import DEV_WITHIN_S, Shop, sent_id
from tests.support.eventually import eventually


def test_the_first_lines_that_a_beginner_sees_warn_of_nothing(own_shop: Shop) -> None:
    dev = own_shop.dev()
    assert "failover" not in dev.output
    assert "WARNING" not in dev.output
    assert dev.output.startswith("postgres "), dev.output


def test_first_task_completes_and_shows_its_result(shop: Shop) -> None:
    done = shop.python("send.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(
        r"sent hello \S+  queued -> completed in \d+ ms: \{'greeting': 'hello Ada'\}", done.stdout
    )


def test_failing_task_shows_its_attempts_and_the_remote_traceback(shop: Shop) -> None:
    done = shop.python("send.py", "--fail")
    assert done.returncode == 1
    assert "TaskFailed: flaky" in done.stdout
    assert "ValueError: no luck (3 attempts)" in done.stdout
    assert 'tasks.py", line' in done.stdout
    shown = shop.hyrex("task", "get", sent_id(done.stdout))
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("ValueError: no luck") >= 3
    assert re.search(r"^ *2 +2 +failed +\d+ ms", shown.stdout, re.MULTILINE), shown.stdout
    task = json.loads(shop.hyrex("task", "get", sent_id(done.stdout), "--json").stdout)
    assert [run["attempt_number"] for run in task["runs"]] == [0, 1, 2]
    assert task["status"] == "failed"


def test_a_task_is_shown_with_its_arguments(shop: Shop) -> None:
    shown = shop.hyrex("task", "get", sent_id(shop.python("send.py").stdout)).stdout
    assert 'arguments: {"name": "Ada"}' in shown


def test_task_that_nobody_serves_says_what_it_waits_for(own_shop: Shop) -> None:
    own_shop.dev("-q", "default")
    done = own_shop.python("send.py", "--queue", "nowhere")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "queued; waiting: no connected worker serves queue 'nowhere'" in done.stdout
    shown = own_shop.hyrex("task", "get", sent_id(done.stdout)).stdout
    assert "waiting: no connected worker serves queue 'nowhere'" in shown


def slots_of_the_worker(shop: Shop) -> int:
    (worker,) = json.loads(shop.hyrex("worker", "list", "--json").stdout)["workers"]
    slots: int = worker["slots"]
    return slots


def test_lists_show_what_there_is(shop: Shop) -> None:
    assert shop.python("send.py").returncode == 0
    tasks = json.loads(shop.hyrex("task", "list", "--name", "hello", "--limit", "1", "--json").stdout)
    assert tasks["tasks"][0]["name"] == "hello"
    assert "payload" not in tasks["tasks"][0]
    assert "result" not in tasks["tasks"][0]["runs"][0]
    workers = json.loads(shop.hyrex("worker", "list", "--json").stdout)["workers"]
    assert [worker["tasks"] for worker in workers] == [["flaky", "hello", "total"]]
    eventually(lambda: slots_of_the_worker(shop) == 2, 60)  # its processes, not what it fetches ahead
    assert len(json.loads(shop.hyrex("broker", "list", "--json").stdout)["brokers"]) == 1
    assert "default" in shop.hyrex("queue", "list").stdout


def test_queue_can_be_paused_purged_and_resumed(shop: Shop) -> None:
    paused = shop.hyrex("queue", "pause", "slow", "--create", "--json")
    assert json.loads(paused.stdout)["paused"] is True, paused.stderr
    sent = shop.python("-c", "from tasks import hello; print(hello.with_config(queue='slow').send('Ada').id)")
    purged = shop.hyrex("queue", "purge", "slow", "--yes", "--json")
    assert json.loads(purged.stdout)["cancelled"] == 1, purged.stderr
    assert (
        json.loads(shop.hyrex("task", "get", sent.stdout.strip(), "--json").stdout)["status"] == "cancelled"
    )
    assert json.loads(shop.hyrex("queue", "resume", "slow", "--json").stdout)["paused"] is False
    assert json.loads(shop.hyrex("queue", "limit", "slow", "3", "--json").stdout)["concurrency_limit"] == 3
    rated = json.loads(shop.hyrex("queue", "limit", "slow", "--rate", "100/m", "--json").stdout)
    assert (rated["concurrency_limit"], rated["rate"], rated["burst"]) == (3, "100/m", 1)
    kept = json.loads(shop.hyrex("queue", "retention", "slow", "1", "--dead-letters", "9", "--json").stdout)
    assert (kept["retention_days"], kept["dead_letter_days"]) == (1, 9)
    assert "--retention-days" in shop.hyrex("queue", "retention", "slow", "8").stderr
    assert "1 d, dead letters 9 d" in shop.hyrex("queue", "list").stdout
    assert "--rate must be a number" in shop.hyrex("queue", "limit", "slow", "--rate", "x").stderr


def test_finished_task_can_be_retried_and_a_waiting_one_cancelled(shop: Shop) -> None:
    done = sent_id(shop.python("send.py").stdout)
    assert "requeued" in shop.hyrex("task", "retry", done).stdout
    code = "from datetime import timedelta; from tasks import hello; "
    code += "print(hello.with_config(delay=timedelta(hours=1)).send('Ada').id)"
    waiting = shop.python("-c", code).stdout.strip()
    assert "cancelled" in shop.hyrex("task", "cancel", waiting, "--reason", "enough").stdout
    unknown = shop.hyrex("task", "cancel", "01900000-0000-7000-8000-000000000000")
    assert (unknown.returncode, "not_found" in unknown.stdout) == (1, True)


def test_the_dashboard_runs_beside_the_rest(shop: Shop) -> None:
    shown = next(process for process in shop.processes.started if process.name == "hyrex dev")
    url = shown.wait_for(r"dashboard (http://localhost:\d+/)", timeout=DEV_WITHIN_S)[1]
    with urlopen(url, timeout=60) as answer:
        assert b"<title>Overview" in answer.read()


def test_the_private_database_is_shown_to_who_asks_and_printed_nowhere_else(shop: Shop) -> None:
    url = shop.hyrex("dev", "--show-database-url").stdout.strip()
    verified = shop.hyrex("verify", "--database-url", url)
    assert verified.returncode == 0, verified.stderr
    password = urlsplit(url).password
    assert password
    assert all(password not in process.output for process in shop.processes.started)


def test_no_private_database_is_shown_where_none_runs(own_shop: Shop) -> None:
    shown = own_shop.hyrex("dev", "--show-database-url")
    assert (shown.returncode, shown.stdout) == (1, "")
    assert "no server runs in .hyrex/postgres: start `hyrex dev`" in shown.stderr
    assert not (own_shop.folder / ".hyrex").exists()


def test_second_dev_on_the_port_is_refused(shop: Shop) -> None:
    done = shop.hyrex("dev", "--port", str(shop.port))
    assert done.returncode == 1
    assert f"port {shop.port} is in use" in done.stderr


def test_tests_of_the_template_pass_without_a_broker_and_whatever_lies_above(own_shop: Shop) -> None:
    """A project made in a clone has Hyrex's own settings of pytest above it, and lacks their plugins."""
    above = own_shop.folder.parent / "pyproject.toml"
    above.write_text('[tool.pytest.ini_options]\naddopts = "--no-such-option"\n')
    done = own_shop.python("-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_task_is_sent_by_name_and_awaited(shop: Shop) -> None:
    done = shop.hyrex("task", "send", "hello", '{"name": "Ada"}', "--wait", "30", "--json")
    assert done.returncode == 0, done.stderr
    task = json.loads(done.stdout)
    assert (task["status"], task["runs"][0]["result"]) == ("completed", {"greeting": "hello Ada"})
    failed = shop.hyrex("task", "send", "flaky", "--timeout", "2.5", "--wait", "30")
    assert (failed.returncode, "ValueError: no luck" in failed.stdout) == (1, True)
    answers = [
        shop.hyrex("task", "send", "hello", f'{{"name": "{name}"}}', "--key", "once", "--json")
        for name in ("B", "B", "C")
    ]
    sent = [json.loads(answer.stdout) for answer in answers]
    assert [one["deduplicated"] for one in sent] == [False, True, True]
    assert [one["arguments_differ"] for one in sent] == [False, False, True]
    assert "'once' belongs to a task with other arguments" in answers[2].stderr
    assert len({one["id"] for one in sent}) == 1


def test_bad_arguments_of_a_send_are_named(shop: Shop) -> None:
    for arguments, problem in (("{name}", "not JSON"), ('["Ada"]', "must be an object")):
        done = shop.hyrex("task", "send", "hello", arguments)
        assert (done.returncode, problem in done.stderr) == (2, True), done.stderr


def test_name_mistyped_makes_no_queue_and_one_made_can_be_deleted(shop: Shop) -> None:
    for command in (("pause", "typo"), ("limit", "typo", "3"), ("resume", "typo")):
        done = shop.hyrex("queue", *command)
        assert (done.returncode, "no queue 'typo'" in done.stderr) == (1, True), done.stderr
        assert ("--create makes it" in done.stderr) == (command[0] != "resume"), done.stderr
    assert "typo" not in shop.hyrex("queue", "list").stdout
    assert shop.hyrex("queue", "limit", "typo", "3", "--create").returncode == 0
    assert shop.hyrex("queue", "delete", "typo").stdout == "deleted queue typo\n"
    assert "typo" not in shop.hyrex("queue", "list").stdout
    assert shop.python("send.py").returncode == 0
    used = shop.hyrex("queue", "delete", "default")
    assert (used.returncode, "has tasks" in used.stderr) == (1, True), used.stderr


def test_what_a_stranger_sent_does_not_reach_the_terminal(shop: Shop) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07\r\x9b31m\u202egnp"
    code = (
        f"from hyrex import HyrexRegistry; hy = HyrexRegistry(); evil = {evil!r}\n"
        "@hy.remote(name=f'n{evil}')\ndef stub() -> None: ...\n"
        "print(stub.with_config(queue=f'q{evil}', idempotency_key=f'k{evil}').send().id)"
    )
    sent = shop.python("-c", code).stdout.strip()
    commands = [
        ("task", "get", sent),
        ("task", "get", sent, "--json"),
        ("task", "list"),
        ("task", "list", "--json"),
        ("task", "list", "-q", f"q{evil}"),
        ("queue", "list"),
        ("queue", "purge", f"q{evil}", "--yes"),
        ("queue", "pause", f"absent{evil}"),
    ]
    for command in commands:
        done = shop.hyrex(*command)
        printed = done.stdout + done.stderr
        assert not {character for character in printed if character in evil and not character.isalnum()} - {
            *"[];"
        }, command
        assert "u001b" in printed or "x1b" in printed, command
