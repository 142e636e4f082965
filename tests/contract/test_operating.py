"""What an operator does by the command line, against a real broker and worker."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.contract.conftest import TARGET
from tests.support.eventually import eventually
from tests.support.processes import RunningBroker, StartWorker


def hyrex(broker: RunningBroker, *arguments: str) -> str:
    """What the command printed; fails the test if the command did."""
    command = [sys.executable, "-m", "hyrex.cli", *arguments, "--broker-url", broker.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_drained_worker_leaves_by_itself(broker: RunningBroker, start_worker: StartWorker) -> None:
    worker = start_worker(TARGET, "-p", "1", "--name", "leaver")
    (session,) = json.loads(hyrex(broker, "worker", "list", "--json"))["workers"]
    assert session["name"] == "leaver"
    eventually(lambda: json.loads(hyrex(broker, "worker", "list", "--json"))["workers"][0]["capacity"] > 0)
    hyrex(broker, "worker", "drain", session["session_id"])
    assert worker.wait(60) == 0
    assert json.loads(hyrex(broker, "worker", "list", "--json"))["workers"] == []


def test_a_worker_without_tasks_says_so_and_how_an_app_gets_them(
    broker: RunningBroker, start_worker: StartWorker, tmp_path: Path
) -> None:
    (tmp_path / "bare.py").write_text(
        "import hyrex\nhy = hyrex.HyrexRegistry()\napp = hyrex.HyrexApp('bare')\n"
    )
    worker = start_worker("bare:app", "-p", "1", cwd=tmp_path)
    eventually(lambda: "bare:app has no tasks" in worker.output)
    assert "app.add_registry(hy) adds those of a registry" in worker.output


def test_what_the_import_of_an_app_would_send_is_refused_though_a_broker_is_there(
    broker: RunningBroker, start_worker: StartWorker, tmp_path: Path
) -> None:
    """Each of the worker's processes sent it at each start."""
    code = """import hyrex
hy = hyrex.HyrexRegistry()
app = hyrex.HyrexApp("eager")
app.add_registry(hy)

@hy.task
def add(a: int) -> int:
    return a

add.send(1)
"""
    (tmp_path / "eager.py").write_text(code)
    command = [sys.executable, "-m", "hyrex.worker", "eager:app", "-p", "1"]
    environment = {**os.environ, "HYREX_BROKER_URL": broker.url, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path, env=environment
    )
    assert done.returncode == 3, done.stderr
    assert "RuntimeUnsupported: a broker is asked while a worker imports this file" in done.stderr
    assert 'eager.py", line 10' in done.stderr
    assert json.loads(hyrex(broker, "task", "list", "name:add", "--json"))["tasks"] == []
