"""docs/reference/cli.md and configuration.md name the options, defaults and variables that there are."""

import os
import re
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, Final

import pytest
import typer

from hyrex.cli.program import program
from hyrex.cli.variables import KNOWN
from hyrex.worker.shared.options import WorkerOptions
from hyrex_broker.config import BrokerConfig
from tests.support.pages import PAGES, read, section
from tests.support.process import ROOT

PAGE: Final = "docs/reference/cli.md"
OF_MANY: Final = {"--broker-url", "--json"}  # said once, above the commands
ITEM: Final = re.compile(r"^- (`-[^`]*`(?:, `-[^`]*`)*)(?: \(([^)]*)\))?: ", re.MULTILINE)
UNITS: Final = {"s": 1.0, "MiB": 1024.0 * 1024}
# Whose default in the command's own declaration is only a sign for another one.
MEANT: Final = {
    ("hyrex run-worker", "--processes"): "usable CPUs",
    ("hyrex run-worker", "--name"): "host-pid",
    ("hyrex run-broker", "--name"): "host-pid",
    ("hyrex gateway", "--name"): "host-pid",
    ("hyrex run-broker", "--payload-limit"): BrokerConfig.model_fields["payload_limit_bytes"].default,
    ("hyrex run-broker", "--retention-days"): BrokerConfig.model_fields["retention_days"].default,
    ("hyrex run-broker", "--dead-letter-days"): BrokerConfig.model_fields["dead_letter_days"].default,
}
FOR_ALL: Final = {"--schema": BrokerConfig.model_fields["database_schema"].default, "--queue": "*"}


def leaves(command: Any, path: tuple[str, ...] = ("hyrex",)) -> Iterator[tuple[str, Any]]:
    for name, below in getattr(command, "commands", {}).items():
        yield from leaves(below, (*path, name))
    if not hasattr(command, "commands"):
        yield " ".join(path), command


COMMANDS: Final = dict(leaves(typer.main.get_command(program)))


def options(command: Any) -> dict[str, Any]:
    """Each spelling of each option of a command, with the option."""
    return {
        name: each
        for each in command.params
        for name in (*each.opts, *each.secondary_opts)
        if name.startswith("-")
    }


def documented(command: str) -> dict[str, str]:
    """The options that the command's section lists, with the default in parentheses."""
    heads = re.findall(rf"^### ({re.escape(command)}(?: [^a-z\n]*)?)$", read(PAGE), re.MULTILINE)
    assert len(heads) == 1, f"{command} has {len(heads)} sections in {PAGE}"
    found: dict[str, str] = {}
    for names, default in ITEM.findall(section(PAGE, heads[0])):
        found |= {name: default.strip("`") for name in re.findall(r"`(--?[a-z-]+)", names)}
    return found


def quantity(text: str) -> Any:
    """A default as the page has it: a number of seconds or bytes where it is one."""
    number, _, unit = text.partition(" ")
    return float(number) * UNITS.get(unit, 1.0) if number.isdecimal() else text


@pytest.mark.parametrize("command", COMMANDS)
def test_each_option_is_documented_and_each_documented_one_is_there(command: str) -> None:
    assert options(COMMANDS[command]).keys() - OF_MANY == documented(command).keys()


@pytest.mark.parametrize("command", COMMANDS)
def test_documented_defaults_are_the_defaults(command: str) -> None:
    known = options(COMMANDS[command])
    for name, said in documented(command).items():
        full = known[name].opts[-1]
        real = MEANT.get((command, full), known[name].default)
        real = FOR_ALL.get(full, "") if real is None else real
        if isinstance(real, bool) or (real == "" and not said):
            assert not said, name
        else:
            assert quantity(said) == quantity(str(real).removesuffix(".0")), f"{name} of {command}"


def test_options_of_many_are_there() -> None:
    known = [options(command) for command in COMMANDS.values()]
    assert set().union(*known) >= OF_MANY
    common = read(PAGE).split("## ")[0]
    assert all(name in common for name in OF_MANY)
    (address,) = {each["--broker-url"].default for each in known if "--broker-url" in each} - {""}
    assert f"`--broker-url` (`{address}`)" in common


def test_commands_and_processes_have_the_same_defaults() -> None:
    """What `hyrex run-worker` and `hyrex run-broker` declare is what the processes behind them use."""
    worker = {each.name: each.default for each in COMMANDS["hyrex run-worker"].params}
    made = WorkerOptions(target="app:app")
    for name in ("threads", "processes", "async_processes", "async_concurrency", "max_tasks_per_child"):
        assert worker[name] == getattr(made, name), name
    assert (worker["drain_timeout"], worker["grace"]) == (made.drain_timeout_s, made.grace_s)
    broker = {each.name: each.default for each in COMMANDS["hyrex run-broker"].params}
    config = BrokerConfig(database_url="postgresql://localhost/hyrex")
    assert broker["listen"] == config.address
    assert broker["processes"] == config.processes
    assert (broker["lease_duration"], broker["drain_timeout"]) == (
        config.lease_duration_s,
        config.drain_timeout_s,
    )


def test_each_variable_is_documented_and_each_documented_one_is_read() -> None:
    named = set(re.findall(r"^- `(HYREX_[A-Z_]+)`", read("docs/reference/configuration.md"), re.MULTILINE))
    assert named == KNOWN
    sources = [*(ROOT / "hyrex").rglob("*.py"), *(ROOT / "broker").rglob("*.py")]
    used = {
        name for path in sources for name in re.findall(r"HYREX_[A-Z_]+", path.read_text(encoding="utf-8"))
    }
    inner = {"HYREX_CHILD"}
    assert used - named - inner == set()
    built = {"HYREX_DATABASE_URL_FILE", "HYREX_TOKEN_FILE", "HYREX_SEND_TIMEOUT"}  # of parts of a name
    assert named - used - built == set()


def test_every_command_that_a_page_names_is_there() -> None:
    known = {name.removeprefix("hyrex ") for name in COMMANDS} | {name.split()[1] for name in COMMANDS}
    wrong = []
    for page in PAGES:
        for code in re.findall(r"`([^`\n]+)`|^(?:\$ )?(hyrex .*)$", read(page), re.MULTILINE):
            for words in re.findall(
                r"(?:^|[;|&] ?)hyrex ((?:[a-z][a-z-]*)(?: [a-z][a-z-]*)?)", "".join(code)
            ):
                first, _, second = words.partition(" ")
                if first not in known or (second and words not in known and first in GROUPS):
                    wrong.append(f"{page}: hyrex {words}")
    assert wrong == []


GROUPS: Final = {name.split()[1] for name in COMMANDS if len(name.split()) == 3}


def test_every_program_that_a_page_names_is_there() -> None:
    modules = {name for page in PAGES for name in re.findall(r"python -m (\w[\w.]*)", read(page))}
    assert {name for name in modules - {"build"} if find_spec(name) is None} == set()
    scripts = {name for page in PAGES for name in re.findall(r"`(scripts/[\w-]+)(?![\w.-])", read(page))}
    assert {name for name in scripts if not os.access(ROOT / name, os.X_OK)} == set()
