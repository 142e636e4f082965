"""Programs of Hyrex that are given the address of a gateway instead of brokers."""

import json
import sys

from hyrex.worker.shared.launcher_messages import REFUSED
from tests.integration.gateway.conftest import Cluster
from tests.support.processes import Processes


def test_a_worker_says_that_it_needs_brokers_and_ends(cluster: Cluster, processes: Processes) -> None:
    worker = processes.start(
        "worker",
        *(sys.executable, "-m", "hyrex.worker", "tests.faults.app:app"),
        env={"HYREX_BROKER_URL": cluster.gateway.url},
    )
    assert worker.wait(60) == REFUSED
    assert worker.output.count("a worker serves one cell") == 1
    assert "HYREX_BROKER_URL" in worker.output
    assert "Traceback" not in worker.output


def test_the_doctor_knows_a_gateway(cluster: Cluster, processes: Processes) -> None:
    command = (sys.executable, "-m", "hyrex.cli", "doctor", "--json")
    doctor = processes.start("doctor", *command, env={"HYREX_BROKER_URL": cluster.gateway.url})
    assert doctor.wait(60) == 0, doctor.output
    found = {each["what"]: each["found"] for each in json.loads(doctor.output)["findings"]}
    assert "a gateway to several cells" in found[f"{cluster.gateway.url} brokers"]
    assert found[f"{cluster.gateway.url} clock"].endswith("the broker's")
