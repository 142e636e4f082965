"""What an operator does by the command line, against a real broker and worker."""

import json
import subprocess
import sys

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
