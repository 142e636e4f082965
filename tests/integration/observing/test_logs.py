"""Logs as JSON: a line each, and whatever a run logs names the run."""

import json
import logging
import sys
from typing import Any, Final

import pytest

from hyrex.runtime.json_logs import RUN, JsonFormatter
from tests.integration.observing import app
from tests.support.process import Process
from tests.support.processes import Processes, RunningBroker, StartWorker

APP: Final = "tests.integration.observing.app:app"
PATIENCE_S: Final = 60.0


def lines(process: Process) -> list[dict[str, Any]]:
    """What it has logged; its other output is a few plain lines."""
    return [json.loads(line) for line in process.output.splitlines() if line.startswith("{")]


def one(process: Process, **fields: str) -> dict[str, Any]:
    """The only line with these fields."""
    (found,) = [line for line in lines(process) if fields.items() <= line.items()]
    return found


def test_lines_of_broker_worker_and_run_name_what_they_are_about(
    observed_broker: RunningBroker, start_worker: StartWorker
) -> None:
    worker = start_worker(
        APP, "-p", "1", "--name", "till-1", "--log-format", "json", broker_url=observed_broker.url
    )
    paid, refused = app.pay.send(7), app.refuse.send()
    assert paid.wait(PATIENCE_S)
    assert not refused.wait(PATIENCE_S)
    worker.terminate()
    line = one(worker, task_id=str(paid.id))
    assert line["logger"] == "shop"
    assert (line["message"], line["amount"], line["level"]) == ("paid 7", 7, "WARNING")
    assert (line["task"], line["queue"], line["attempt"], line["worker"]) == ("pay", "shop", 0, "till-1")
    failures = [line for line in lines(worker) if line.get("task_id") == str(refused.id)]
    assert [(line["attempt"], line["level"]) for line in failures] == [(0, "WARNING"), (1, "ERROR")]
    assert {line["worker"] for line in lines(worker)} == {"till-1"}
    observed_broker.process.terminate()
    others = [
        line for line in observed_broker.process.output.splitlines() if not line.startswith(("{", "broker "))
    ]
    assert others == []


def test_a_line_is_valid_json_whatever_is_logged() -> None:
    class Odd:
        def __str__(self) -> str:
            raise ValueError

    record = logging.makeLogRecord(
        {"msg": 'say "%s"\n', "args": ("\ud800",), "time": 1, "odd": Odd(), RUN: {"task_id": "t"}}
    )
    try:
        raise KeyError("gone")
    except KeyError:
        record.exc_info = sys.exc_info()
    line = JsonFormatter(worker="w").format(record)
    assert "\n" not in line
    found = json.loads(line.encode(errors="backslashreplace"))
    assert (found["time_"], found["odd"], found["task_id"], found["worker"]) == (1, "<Odd>", "t", "w")
    assert "KeyError: 'gone'" in found["error"]


@pytest.mark.parametrize("module", ["hyrex_broker", "hyrex.worker"])
def test_an_unknown_format_is_refused(processes: Processes, module: str) -> None:
    target = ["module:app"] if module == "hyrex.worker" else []
    refused = processes.start("refused", sys.executable, "-m", module, *target, "--log-format", "xml")
    assert refused.wait(PATIENCE_S) == 2
    assert "invalid choice: 'xml'" in refused.output
