"""docs/reference/cli.md and configuration.md name the options and variables that there are, and no others."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from hyrex.cli.program import program
from hyrex.worker.shared.options import WorkerOptions
from tests.support.process import ROOT

CLI = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
CONFIGURATION = (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
OF_MANY = {"--broker-url", "--json", "--queue", "--processes", "--threads"}  # said once, above the table


def leaves(command: Any, path: tuple[str, ...] = ("hyrex",)) -> Iterator[tuple[str, Any]]:
    for name, below in getattr(command, "commands", {}).items():
        yield from leaves(below, (*path, name))
    if not hasattr(command, "commands"):
        yield " ".join(path), command


COMMANDS = dict(leaves(typer.main.get_command(program)))


def options(command: Any) -> set[str]:
    named = [name for each in command.params for name in (*each.opts, *each.secondary_opts)]
    return {name for name in named if name.startswith("-")}


def row(command: str) -> str:
    rows = [line for line in CLI.splitlines() if re.match(rf"\| .*`{command}\b[^`]*`.* \|", line)]
    found = [line for line in rows if re.search(rf"`{command}[ `]", line.split(" | ")[0] + " ")]
    assert len(found) == 1, f"{command} has {len(found)} rows in docs/reference/cli.md"
    return found[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_option_is_documented_and_each_documented_one_is_there(command: str) -> None:
    documented = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", row(command)))
    beside = re.findall(
        r"`(hyrex [a-z -]*[a-z])", row(command).split(" | ")[0]
    )  # commands that share the row
    shared = {name for other in beside if other in COMMANDS for name in options(COMMANDS[other])}
    assert options(COMMANDS[command]) - documented - OF_MANY == set()
    assert documented - shared - {"--version"} == set()


def test_options_of_many_are_there() -> None:
    assert set().union(*map(options, COMMANDS.values())) >= OF_MANY
    assert all(name in CLI for name in OF_MANY)


def test_documented_defaults_of_a_worker_are_its_defaults() -> None:
    made = WorkerOptions(target="app:app")
    for words in (
        f"`-t` threads in each ({made.threads})",
        f"`--async-processes` ({made.async_processes})",
        f"`--async-concurrency` ({made.async_concurrency})",
        f"`--drain-timeout` ({made.drain_timeout_s:.0f} s)",
        f"`--grace` ({made.grace_s:.0f} s)",
    ):
        assert words in row("hyrex run-worker")


def test_each_variable_is_documented_and_each_documented_one_is_read() -> None:
    documented = set(re.findall(r"^\| `(HYREX_[A-Z_]+)`", CONFIGURATION, re.MULTILINE))
    sources = [*(ROOT / "hyrex").rglob("*.py"), *(ROOT / "broker").rglob("*.py")]
    read = {
        name for path in sources for name in re.findall(r"HYREX_[A-Z_]+", path.read_text(encoding="utf-8"))
    }
    inner = {"HYREX_CHILD"}
    assert read - documented - inner == set()
    built = {"HYREX_DATABASE_URL_FILE", "HYREX_TOKEN_FILE", "HYREX_SEND_TIMEOUT"}  # of parts of a name
    assert documented - read - built == set()
