"""`hyrex doctor` finds what stands between a machine and running tasks, and names the remedy."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from hyrex_broker.storage.outbox_install import install
from tests.support.postgres import run_apart
from tests.support.process import Process
from tests.support.processes import Processes, RunningBroker, StartBroker
from tests.support.roles import execute_now

TLS = Path(__file__).parents[1] / "support/tls"
HYREX = (sys.executable, "-m", "hyrex.cli")


def examined(processes: Processes, *arguments: str, **env: str) -> tuple[int, dict[str, dict[str, str]]]:
    """The exit status of `hyrex doctor --json`, and its findings by what they are about."""
    doctor: Process = processes.start("doctor", *HYREX, "doctor", "--json", *arguments, env=env)
    status = doctor.wait()
    found: dict[str, Any] = json.loads(doctor.output)
    return status, {finding["what"]: finding for finding in found["findings"]}


def test_all_is_well_beside_a_running_broker(
    processes: Processes, broker: RunningBroker, database_url: str
) -> None:
    status, found = examined(processes, HYREX_BROKER_URL=broker.url, HYREX_DATABASE_URL=database_url)
    # Nothing but what is true of the tests' own Postgres, which does not write to disk.
    wrong = {what for what, finding in found.items() if finding["remedy"]}
    assert wrong <= {"durability"}, found
    assert status == (1 if wrong else 0)
    assert found[broker.url]["found"].startswith("serves")
    assert "1 in this cluster" in found[f"{broker.url} brokers"]["found"]
    assert found[f"{broker.url} clock"]["found"].endswith("the broker's")
    assert "1 seen in the last 10 s" in found["brokers"]["found"]
    assert found["partitions"]["found"] == "there for today and tomorrow"


def test_a_broker_that_is_not_there_is_told_with_the_remedy(processes: Processes) -> None:
    status, found = examined(processes, HYREX_BROKER_URL="grpc://127.0.0.1:1")
    assert status == 1
    assert "is a broker running there" in found["grpc://127.0.0.1:1"]["remedy"]


def test_a_certificate_of_an_unknown_authority_is_told(
    processes: Processes, start_broker: StartBroker
) -> None:
    url = start_broker("--tls-cert", f"{TLS}/server.crt", "--tls-key", f"{TLS}/server.key").url
    status, found = examined(processes, HYREX_BROKER_URL=url.replace("grpc://", "grpcs://"))
    assert status == 1
    (finding,) = (each for what, each in found.items() if what.startswith("grpcs://"))
    assert "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH" in finding["remedy"]


def test_a_wrong_token_is_told(processes: Processes, start_broker: StartBroker) -> None:
    url = start_broker("--token", "right").url
    status, found = examined(processes, HYREX_BROKER_URL=url, HYREX_TOKEN="wrong")
    assert status == 1
    assert "set HYREX_TOKEN" in found[f"{url} token"]["remedy"]


def test_a_database_without_a_schema_is_told(
    processes: Processes, broker: RunningBroker, empty_database_url: str
) -> None:
    status, found = examined(processes, "--database-url", empty_database_url, HYREX_BROKER_URL=broker.url)
    assert status == 1
    assert "hyrex migrate" in found["schema hyrex"]["remedy"]


def test_a_read_replica_that_takes_writes_is_told(
    processes: Processes, broker: RunningBroker, database_url: str
) -> None:
    urls = {"HYREX_DATABASE_URL": database_url, "HYREX_READ_DATABASE_URL": database_url}
    status, found = examined(processes, HYREX_BROKER_URL=broker.url, **urls)
    assert status == 1
    (finding,) = (each for what, each in found.items() if what.startswith("read replica"))
    assert "it takes writes" in finding["found"]
    assert "--read-database-url" in finding["remedy"]


@pytest.mark.parametrize(
    ("env", "what"),
    [
        ({"HYREX_BROKER_URL": "http://localhost"}, "broker URL"),
        ({"HYREX_BROKER_URL": "grpc://127.0.0.1:1", "HYREX_TOKEN_FILE": "/nowhere"}, "token"),
    ],
)
def test_settings_that_cannot_be_used_are_told(processes: Processes, env: dict[str, str], what: str) -> None:
    status, found = examined(processes, **env)
    assert (status, bool(found[what]["remedy"])) == (1, True)


def test_an_outbox_beside_the_database_is_looked_at(
    processes: Processes, broker: RunningBroker, empty_database_url: str
) -> None:
    given = {"HYREX_BROKER_URL": broker.url, "HYREX_OUTBOX_URL": empty_database_url}

    def finding() -> dict[str, str]:
        return next(
            each for what, each in examined(processes, **given)[1].items() if what.startswith("outbox ")
        )

    assert "hyrex outbox install" in finding()["remedy"]
    run_apart(install(empty_database_url))
    assert finding() | {"what": ""} == {
        "what": "", "found": "version 1; the next row has waited for 0 s", "remedy": ""
    }  # fmt: skip
    execute_now(
        empty_database_url,
        "select hyrex.enqueue('charge')",
        "update hyrex.outbox set enqueued_at = now() - interval '2 minutes'",
    )
    assert "no broker takes it" in finding()["remedy"]


def test_a_misspelt_variable_is_told_with_the_closest_name(
    processes: Processes, broker: RunningBroker
) -> None:
    status, found = examined(processes, HYREX_BROKER_URL=broker.url, HYREX_TOKEN_FIEL="x")
    assert (status, found["HYREX_TOKEN_FIEL"]["remedy"]) == (1, "did you mean HYREX_TOKEN_FILE?")


def test_a_person_reads_one_line_for_each_finding(processes: Processes, broker: RunningBroker) -> None:
    doctor = processes.start("doctor", *HYREX, "doctor", env={"HYREX_BROKER_URL": broker.url})
    assert doctor.wait() == 0
    assert f"ok    {broker.url}: serves, answered in" in doctor.output
