"""A new project in a folder of its own, and commands run in it as its user would."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.ports import free_port
from tests.support.process import Process, environment
from tests.support.processes import Processes

DEV_WITHIN_S = 100.0  # seconds on a quiet machine; a busy one may take its time
HYREX = (sys.executable, "-m", "hyrex.cli")


@dataclass(frozen=True)
class Shop:
    """The project made by `hyrex init`, and the port its broker uses."""

    folder: Path
    port: int
    processes: Processes

    @property
    def url(self) -> str:
        return f"grpc://localhost:{self.port}"

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the project's folder, as its user would."""
        env = environment({"HYREX_BROKER_URL": self.url, "HYREX_SEND_TIMEOUT": "2"})
        return subprocess.run(
            command, cwd=self.folder, env=env, capture_output=True, text=True, check=False, timeout=90
        )

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, *arguments)

    def hyrex(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(*HYREX, *arguments)

    def dev(self, *arguments: str) -> Process:
        """Start `hyrex dev` and wait until it is ready."""
        process = self.start_dev(*arguments)
        process.wait_for(r"ready in .* s; watching \*\.py", timeout=DEV_WITHIN_S)
        return process

    def start_dev(self, *arguments: str, **env: str) -> Process:
        """Start `hyrex dev`; it ends with the test."""
        command = [*HYREX, "dev", "--port", str(self.port), *arguments]
        return self.processes.start("hyrex dev", *command, env=env, cwd=self.folder)


def make_shop(place: Path, processes: Processes) -> Shop:
    done = subprocess.run([*HYREX, "init", "shop"], cwd=place, env=environment({}), check=True, timeout=60)
    assert done.returncode == 0
    return Shop(place / "shop", free_port(), processes)


def sent_id(output: str) -> str:
    found = re.search(r"sent \w+ (\S+)", output)
    assert found, output
    return found[1]
