"""The commands and variables that files of deploy/ and pages hold, as they would be run."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.pages import PAGES, read
from tests.support.process import ROOT

yaml: Final[Any] = pytest.importorskip("yaml")  # comes with mkdocs
DEPLOY: Final = ROOT / "deploy"
DOCKERFILE: Final = DEPLOY / "docker" / "Dockerfile"
MANIFESTS: Final = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
UNITS: Final = sorted((DEPLOY / "systemd").glob("*.service"))
Command = tuple[str, list[str]]
"""Where it stands, and its words behind `hyrex`."""


def commands() -> Iterator[Command]:
    """Every command of Hyrex that a file of deploy/ or a page holds."""
    for source in (of_the_image, of_compose, of_kubernetes, of_systemd, of_comments, of_pages):
        yield from source()


def of_the_image() -> Iterator[Command]:
    """Of the Dockerfile: its arrays. The entry point is `hyrex`, so CMD has what follows it."""
    joined = DOCKERFILE.read_text().replace("\\\n", " ")
    for instruction, array in re.findall(r"^(RUN|CMD|HEALTHCHECK) [^#\n\[]*(\[.*\])$", joined, re.MULTILINE):
        words = json.loads(array)
        yield f"Dockerfile {instruction}", words if instruction == "CMD" else words[1:]


def services() -> dict[str, Any]:
    """The services of the compose file, merged."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    return found


def of_compose() -> Iterator[Command]:
    """Of compose.yaml."""
    for name, service in services().items():
        if "command" in service:
            yield f"compose {name}", service["command"]


def documents() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every object of the manifests."""
    for path in MANIFESTS:
        for document in yaml.safe_load_all(path.read_text()):
            yield path, document


def containers() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every container of the manifests, with its place."""
    for path, document in documents():
        pod = document.get("spec", {}).get("template", {}).get("spec", {})
        for container in (*pod.get("initContainers", ()), *pod.get("containers", ())):
            yield f"{path.name} {container['name']}", container


def of_kubernetes() -> Iterator[Command]:
    """Of the manifests: arguments, probes and hooks."""
    for place, container in containers():
        yield place, container["args"]
        hooks = [container.get(name, {}) for name in ("startupProbe", "readinessProbe", "livenessProbe")]
        hooks += container.get("lifecycle", {}).values()
        for hook in hooks:
            if "exec" in hook:
                yield f"{place} probe", hook["exec"]["command"][1:]


def of_systemd() -> Iterator[Command]:
    """Of the units."""
    for path in UNITS:
        for line in re.findall(r"^Exec\w+=\S+/hyrex (.*)$", path.read_text(), re.MULTILINE):
            yield path.name, shlex.split(line)


def of_comments() -> Iterator[Command]:
    """Of comments in deploy/: what a reader is told to type."""
    for path in sorted(DEPLOY.rglob("*")):
        if path.is_file() and path.suffix != ".json":
            for line in re.findall(
                r"# .*\bcompose run (?:-\S+ )*admin (.*)$", path.read_text(), re.MULTILINE
            ):
                yield f"comment of {path.name}", in_shell(line)


def of_pages() -> Iterator[Command]:
    """Of pages: lines of their blocks of code that begin with `hyrex`, or with compose's `admin`."""
    for page in PAGES:
        for _, block in re.findall(r"^```(\w*)\n(.*?)^```$", read(page), re.MULTILINE | re.DOTALL):
            lines = block.replace("\\\n", " ").splitlines()
            for line in lines:
                found = re.match(r"(?:\$ )?(?:docker compose run (?:-\S+ )*admin|hyrex) (.*)", line.strip())
                if found:
                    yield page, in_shell(found[1])


def in_shell(line: str) -> list[str]:
    """The words of a command as far as the shell's next one or its redirections."""
    plain = line if "'" in line else re.sub(r"(?:\s#|[;|>&]).*", "", line)
    return shlex.split(re.sub(r" > \S+$", "", plain), comments=True)
