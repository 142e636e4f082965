"""The steps of docs/operating/deployment.md: roles, migration, TLS, tokens, the units' commands.

What the files of deploy/ say is run as it stands there, with the places and ports of this machine.
"""

import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.cli.deployed import DEPLOY, of_comments, of_kubernetes, of_the_image, yaml
from tests.support.process import ROOT, Process, environment
from tests.support.processes import Processes
from tests.support.roles import execute_now

HYREX: Final = (sys.executable, "-m", "hyrex.cli")
TLS: Final = ROOT / "tests" / "support" / "tls"
NOT_MIGRATED: Final = 4
ROLES: Final = ("hyrex_owner", "hyrex_broker")


@dataclass
class Machine:
    """The places of a machine: what /etc/hyrex, credentials and the app's folder are in the files."""

    folder: Path
    database_url: str
    processes: Processes
    mark: str
    broker_url: str = ""

    def role(self, name: str) -> str:
        """Roles belong to the whole server, which other tests use too: ours have a mark."""
        return f"{name}_{self.mark}"

    def url_of(self, role: str) -> str:
        parts = urlsplit(self.database_url)
        return urlunsplit(parts._replace(netloc=f"{self.role(role)}:secret@{parts.hostname}:{parts.port}"))

    def env(self, **more: str) -> dict[str, str]:
        trust = {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(TLS / "ca.crt")}
        return trust | ({"HYREX_BROKER_URL": self.broker_url} if self.broker_url else {}) | more

    def run(self, words: list[str], **env: str) -> str:
        """What a command prints; it must succeed."""
        done = subprocess.run(
            [*HYREX, *words], cwd=self.folder, env=environment(self.env(**env)),
            capture_output=True, text=True, check=False, timeout=100,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
        return done.stdout

    def unit(self, name: str) -> Process:
        """Start what a unit of systemd starts, with its environment, at a free port."""
        text = (DEPLOY / "systemd" / f"{name}.service").read_text()
        text = text.replace("%d/", f"{self.folder}/").replace("/etc/hyrex/tls.", f"{TLS}/server.")
        text = re.sub(r"(0\.0\.0\.0|127\.0\.0\.1):\d+", r"\1:0", text)
        words = shlex.split(re.findall(r"^ExecStart=\S+/hyrex (.*)$", text, re.MULTILINE)[0])
        lines = re.findall(r"^Environment=(.*)$", text, re.MULTILINE)
        env = dict(each.partition("=")[::2] for line in lines for each in shlex.split(line))
        return self.processes.start(name, *HYREX, *words, env=env | self.env(), cwd=self.folder)


@pytest.fixture
def machine(database_url: str, tmp_path: Path, processes: Processes) -> Iterator[Machine]:
    made = Machine(tmp_path, database_url, processes, f"m{abs(hash(tmp_path)) % 10**8}")
    sql = (DEPLOY / "postgres" / "roles.sql").read_text()
    named = re.findall(r"^create role (\w+)", sql, re.MULTILINE)
    roles = [made.role(name) for name in named]
    for name in named:
        sql = re.sub(rf"\b{name}\b", made.role(name), sql)
    execute_now(database_url, "drop schema if exists hyrex cascade", sql)
    execute_now(database_url, *(f"alter role {role} password 'secret'" for role in roles))
    try:
        yield made
    finally:
        processes.end()
        for role in roles:
            execute_now(
                database_url,
                f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{role}'",
                f"drop owned by {role} cascade",
                f"drop role {role}",
            )


def test_the_units_commands_serve_a_task_to_a_worker_that_may_do_no_more(machine: Machine) -> None:
    (machine.folder / "database-url").write_text(machine.url_of("hyrex_broker"))
    (machine.folder / "root-token").write_text("the-root-token\nthe-next-one\n")
    assert machine.unit("hyrex-broker").wait(100) == NOT_MIGRATED
    said = dict(of_kubernetes())["migrate.yaml migrate"]
    (machine.folder / "owner-url").write_text(machine.url_of("hyrex_owner"))
    placed = [word.replace("/run/hyrex/owner", str(machine.folder)) for word in said]
    machine.run([machine.role(word) if word in ROLES else word for word in placed])

    broker = machine.unit("hyrex-broker")
    port = broker.wait_for(r"listening on \S+:(\d+)", 100)[1]
    machine.broker_url = f"grpcs://localhost:{port}"
    (probe,) = [words for place, words in of_the_image() if place == "Dockerfile HEALTHCHECK"]
    assert machine.run(probe, HYREX_TOKEN_FILE="/nowhere") == f"{machine.broker_url} serves\n"

    root = {"HYREX_TOKEN_FILE": str(machine.folder / "root-token")}
    (create,) = [words for _, words in of_comments() if words[:2] == ["token", "create"]]
    (machine.folder / "worker-token").write_text(machine.run(create, **root))
    (init,) = [words for place, words in of_the_image() if place == "Dockerfile RUN"]
    machine.run([word.replace("/app", ".") for word in init])
    worker = machine.unit("hyrex-worker")
    worker.wait_for("worker ready", 100)
    sent = machine.run(["task", "send", "hello", '{"name": "Ada"}', "--wait", "100", "--json"], **root)
    assert '"hello Ada"' in sent
    with pytest.raises(AssertionError, match="lacks the scope 'read'"):
        machine.run(["task", "list"], HYREX_TOKEN_FILE=str(machine.folder / "worker-token"))
    assert (worker.terminate(60), broker.terminate(60)) == (0, 0)


def test_the_dashboards_unit_answers_the_probe_of_the_manifest(machine: Machine) -> None:
    subprocess.run([DEPLOY / "make-secrets", machine.folder / "secrets"], check=True, timeout=100)
    (machine.folder / "dashboard-key").write_text((machine.folder / "secrets" / "dashboard_key").read_text())
    dashboard = machine.unit("hyrex-dashboard")
    url = dashboard.wait_for(r"(http://localhost:\d+)/", 100)[1]
    with urllib.request.urlopen(f"{url}/health", timeout=60) as answer:
        assert answer.read() == b"ok\n"
    assert dashboard.terminate(60) == 0


def test_secrets_are_made_once_and_are_all_that_compose_wants(tmp_path: Path) -> None:
    make = [DEPLOY / "make-secrets", tmp_path / "secrets"]
    subprocess.run(make, check=True, timeout=100)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    declared = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["secrets"]
    assert made.keys() == declared.keys()
    assert [Path(each["file"]).name for each in declared.values()] == list(declared)
    assert (
        made["broker_url"] == f"postgresql://hyrex_broker:{made['hyrex_broker_password']}@postgres:5432/hyrex"
    )
    assert len({len(made[name]) for name in ("root_token", "dashboard_key", "hyrex_owner_password")}) == 1
    assert len(made["root_token"]) == 48
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    subprocess.run(make, check=True, timeout=100)
    assert {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()} == made
