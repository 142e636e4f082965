"""Spans of sends and runs, of real processes with the real SDK, hang together over the broker."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from hyrex.backend.tracing import tracer_here
from tests.support.eventually import eventually
from tests.support.process import ROOT
from tests.support.processes import Processes, RunningBroker, StartWorker

MODULE: Final = "tests.integration.observing.traced_app"
PATIENCE_S: Final = 60.0
Span = dict[str, Any]


def spans(path: Path) -> list[Span]:
    """All spans that ended."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def own(span: Span) -> str:
    """Its id."""
    found: str = span["context"]["span_id"]
    return found


def of(found: list[Span], kind: str, **wanted: object) -> list[Span]:
    """Spans of a kind with these attributes."""
    named = {key.replace("__", "."): value for key, value in wanted.items()}
    return [
        span
        for span in found
        if span["kind"] == f"SpanKind.{kind}" and named.items() <= span["attributes"].items()
    ]


def by_name(found: list[Span], name: str) -> Span:
    """The only span of a name."""
    (span,) = [span for span in found if span["name"] == name]
    return span


def test_sends_runs_and_what_runs_send_are_one_trace_and_batches_are_linked(
    broker: RunningBroker, start_worker: StartWorker, processes: Processes, tmp_path: Path
) -> None:
    path = tmp_path / "spans.jsonl"
    env = {"SPANS": str(path), "HYREX_BROKER_URL": broker.url}
    worker = start_worker(f"{MODULE}:app", "-p", "1", "--log-format", "json", env=env)
    sender = processes.start("sender", sys.executable, "-m", MODULE, env=env)
    order, broken, *packed = sender.wait_for(r"sent (.*)\n", PATIENCE_S)[1].split()
    # Runs: order, break_down twice, pack three times. Sends: three single ones, one of two.
    found = eventually(lambda: all_of(path, 6 + 4 + 2), PATIENCE_S)

    visit, choose = by_name(found, "visit"), by_name(found, "choose")
    (sent,) = of(found, "PRODUCER", messaging__message__id=order)
    (ran,) = of(found, "CONSUMER", messaging__message__id=order)
    assert (sent["name"], ran["name"]) == ("send shop", "process shop")
    assert chain(found, choose) == [own(choose), own(ran), own(sent), own(visit)]
    (inner,) = [span for span in of(found, "PRODUCER") if span["parent_id"] == own(choose)]
    (child,) = of(found, "CONSUMER", messaging__message__id=inner["attributes"]["messaging.message.id"])
    assert child["parent_id"] == own(inner)
    assert child["context"]["trace_id"] == visit["context"]["trace_id"]
    assert ran["attributes"] | {"hyrex.queue_wait_ms": 0, "hyrex.worker": ""} == {
        "messaging.system": "hyrex",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "shop",
        "messaging.message.id": order,
        "hyrex.task": "order",
        "hyrex.attempt": 0,
        "hyrex.run_number": 0,
        "hyrex.queue_wait_ms": 0,
        "hyrex.worker": "",
    }
    assert ran["attributes"]["hyrex.queue_wait_ms"] >= 0
    expect_failures(of(found, "CONSUMER", messaging__message__id=broken))
    (batch,) = of(found, "PRODUCER", messaging__batch__message_count=2)
    for task_id in packed:
        (linked,) = of(found, "CONSUMER", messaging__message__id=task_id)
        assert linked["parent_id"] is None
        assert [link["context"]["span_id"] for link in linked["links"]] == [own(batch)]
        assert linked["context"]["trace_id"] != batch["context"]["trace_id"]
    (line,) = [json.loads(each) for each in worker.output.splitlines() if '"ordering"' in each]
    assert f"0x{line['trace_id']}" == visit["context"]["trace_id"]


def all_of(path: Path, count: int) -> list[Span]:
    """The spans when there are so many; each is written after its run is reported."""
    found = spans(path)
    return found if len(found) >= count else []


def chain(found: list[Span], span: Span) -> list[str]:
    """The ids from a span up to its root."""
    known: Mapping[str, Span] = {f"0x{own(each).removeprefix('0x')}": each for each in found}
    ids = [own(span)]
    while (parent := known[ids[-1]]["parent_id"]) is not None:
        ids.append(parent)
    return ids


def expect_failures(runs: list[Span]) -> None:
    """Both attempts of a task that fails."""
    assert sorted(run["attributes"]["hyrex.attempt"] for run in runs) == [0, 1]
    for run in runs:
        assert run["status"] == {"status_code": "ERROR", "description": "ValueError: broken"}
        assert run["attributes"]["error.type"] == "ValueError"
        (event,) = run["events"]
        assert event["attributes"]["exception.message"] == "broken"


CHECK: Final = """
import sys
from hyrex.backend.tracing import tracer_here
assert tracer_here() is None
assert "opentelemetry" not in sys.modules  # nothing of it is imported where nobody else has
import opentelemetry.trace
assert tracer_here() is None
from opentelemetry.sdk.trace import TracerProvider
opentelemetry.trace.set_tracer_provider(TracerProvider())
assert tracer_here() is tracer_here() is not None
"""


def test_nothing_is_traced_where_no_sdk_is_configured() -> None:
    subprocess.run([sys.executable, "-c", CHECK], cwd=ROOT, check=True, timeout=PATIENCE_S)
    assert tracer_here() is None
