"""The polyglot example: Python sends, Go executes, TypeScript waits."""

import json
import subprocess
import sys

import pytest

from tests.conformance.languages import LANGUAGES, ROOT, build_environment
from tests.support.process import environment
from tests.support.processes import Processes, RunningBroker

HERE = ROOT / "examples" / "polyglot"


def run(*command: str, env: dict[str, str]) -> str:
    """What a command printed."""
    done = subprocess.run(
        command, cwd=HERE, env=env, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_task_passes_through_three_languages(broker: RunningBroker, processes: Processes) -> None:
    for language in ("go", "ts"):
        if absence := LANGUAGES[language].absence:
            pytest.skip(f"{language}: {absence}")
    run(str(HERE / "build"), env=build_environment())
    env = environment(build_environment() | {"HYREX_BROKER_URL": broker.url})
    processes.start(
        "go worker", str(HERE / "worker" / ".cache" / "worker"), env={"HYREX_BROKER_URL": broker.url}
    )
    task_id = run(sys.executable, "send.py", "to be or not to be", env=env)
    counted = json.loads(run("node", "waiter/dist/wait.js", task_id, env=env))
    assert counted == {"to": 2, "be": 2, "or": 1, "not": 1}
