"""The files of deploy/: their commands are ones that Hyrex has, and together they run a task."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from hyrex.cli.program import program
from tests.cli.deployed import DEPLOY, DOCKERFILE, UNITS, commands, containers, services
from tests.support.pages import read
from tests.support.process import ROOT

FOUND = list(commands())


def parse(words: list[str]) -> dict[str, Any]:
    """The values of the command's parameters. Raises an error of usage for what it does not know."""
    command: Any = typer.main.get_command(program)
    words = list(words)
    while hasattr(command, "commands") and words and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    if words == ["--help"]:
        return {}
    values: dict[str, Any] = command.make_context("hyrex", words).params
    assert not hasattr(command, "commands"), f"no command: {words}"
    return values


@pytest.mark.parametrize(("place", "words"), FOUND, ids=[f"{place}: {words[0]}" for place, words in FOUND])
def test_every_command_is_one_that_hyrex_has(place: str, words: list[str]) -> None:
    parse(words)


def test_every_kind_of_file_is_looked_at() -> None:
    places = " ".join(place for place, _ in FOUND)
    for wanted in ("Dockerfile CMD", "Dockerfile HEALTHCHECK", "Dockerfile RUN", "compose migrate",
                   "broker.yaml broker probe", "migrate.yaml", "hyrex-worker.service",
                   "comment of compose.yaml", "docs/operating/deployment.md"):  # fmt: skip
        assert wanted in places


@pytest.mark.parametrize(
    "words", [["run-broker", "--tls"], ["brokers", "list"], ["run-broker", "--processes=x"]]
)
def test_a_command_that_hyrex_has_not_is_found(words: list[str]) -> None:
    with pytest.raises(Exception, match=r"No such option|no command|No such command|valid integer"):
        parse(words)


def test_every_variable_that_is_set_is_documented() -> None:
    documented = set(
        re.findall(r"^- `(HYREX_[A-Z_]+)`", read("docs/reference/configuration.md"), re.MULTILINE)
    )
    files = [path for path in DEPLOY.rglob("*") if path.is_file() and path.name != "make-secrets"]
    used = {name for path in files for name in re.findall(r"HYREX_[A-Z_]+", path.read_text())}
    assert len(used) >= 5
    assert used - documented == set()


def test_what_stops_gets_twenty_seconds_more_than_its_drain() -> None:
    """docs/operating/deployment.md says why. Of each file: how long it allows each command to drain."""
    allowed: dict[str, list[int]] = {"run-broker": [], "run-worker": []}
    for service in services().values():
        if service.get("command", ["-"])[0] in allowed:
            allowed[service["command"][0]].append(int(service["stop_grace_period"].removesuffix("s")))
    for path in UNITS:
        command = re.findall(r"hyrex (\S+)", path.read_text())[0]
        if command in allowed:
            allowed[command] += [int(re.findall(r"TimeoutStopSec=(\d+)", path.read_text())[0])]
    for name, command in (("broker.yaml", "run-broker"), ("worker.yaml", "run-worker")):
        text = (DEPLOY / "kubernetes" / name).read_text()
        allowed[command] += [int(re.findall(r"terminationGracePeriodSeconds: (\d+)", text)[0])]
    for command, found in allowed.items():
        minimum = parse([command, *(["app:app"] if command == "run-worker" else [])])["drain_timeout"] + 20
        assert set(found) == {minimum}, command
        assert len(found) >= 3


def test_no_container_is_root_or_writes_to_its_file_system() -> None:
    for place, container in containers():
        assert container["securityContext"]["readOnlyRootFilesystem"], place
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, place
    for name, service in services().items():
        assert name == "postgres" or (service["read_only"] and service["cap_drop"] == ["ALL"]), name
    final = DOCKERFILE.read_text().split("\nFROM ")[2:]
    assert [re.findall(r"^USER (\S+)", stage, re.MULTILINE)[-1:] for stage in final] == [
        ["10001:10001"], ["10001:10001"], []
    ]  # fmt: skip


def test_images_are_pinned_by_version() -> None:
    stages = re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE.read_text(), re.MULTILINE)
    bases = [base.replace("${PYTHON}", re.findall(r"ARG PYTHON=(\S+)", DOCKERFILE.read_text())[0])
             for base in re.findall(r"^FROM (\S+)", DOCKERFILE.read_text(), re.MULTILINE)]  # fmt: skip
    bases += [service["image"] for service in services().values() if "build" not in service]
    assert [base for base in bases if base not in stages and not re.search(r":\d+\.\d+", base)] == []


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_understands_the_unit_and_finds_it_hardened(unit: Path, tmp_path: Path) -> None:
    stands_for = tmp_path / "bin" / "hyrex"
    stands_for.parent.mkdir()
    stands_for.write_text("#!/bin/sh\n")
    stands_for.chmod(0o755)
    placed = tmp_path / unit.name
    placed.write_text(unit.read_text().replace("/opt/hyrex/bin/hyrex", str(stands_for)))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", placed],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    ours = [line for line in verified.stderr.splitlines() if unit.name in line]
    assert (verified.returncode, ours) == (0, [])
    exposure = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=40", "--no-pager", placed],
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    if "unrecognized option" not in exposure.stderr:  # before systemd 250
        assert exposure.returncode == 0, exposure.stdout + exposure.stderr


def test_the_image_installs_extras_that_there_are_and_copies_what_the_wheel_is_made_of(
    tmp_path: Path,
) -> None:
    from hatchling.builders.wheel import WheelBuilder

    text = DOCKERFILE.read_text()
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", text)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(extras.split(",")) <= project["optional-dependencies"].keys()
    ignored = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text()
    kept = set(re.findall(r"^!(\S+)$", ignored, re.MULTILINE))
    copied = [
        name for line in re.findall(r"^COPY (?!--)(.+) \S+$", text, re.MULTILINE) for name in line.split()
    ]
    assert set(copied) == kept
    for name in copied:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / name)
    bare, whole = (
        wheel_of(WheelBuilder, root, tmp_path / out) for root, out in ((tmp_path, "1"), (ROOT, "2"))
    )
    assert bare == whole


def wheel_of(builder: Any, root: Path, out: Path) -> set[str]:
    """The names of the files in the wheel that is made of a folder."""
    import zipfile

    with zipfile.ZipFile(
        next(iter(builder(str(root)).build(directory=str(out), versions=["standard"])))
    ) as made:
        return set(made.namelist())


def test_kustomize_joins_the_manifests() -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not here")
    done = subprocess.run(
        ["kubectl", "kustomize", DEPLOY / "kubernetes"],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n  namespace: hyrex\n") >= 8
    assert "image: hyrex-worker:1\n" in done.stdout
