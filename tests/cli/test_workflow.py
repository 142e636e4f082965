"""`hyrex workflow` with a broker and a worker, and the recipe that runs a workflow by a clock."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hyrex.backend.ids import new_task_id
from hyrex.by_id import get_task
from hyrex.cli import workflow
from hyrex.cli.program import program
from hyrex.client.process import close_client
from hyrex.v1 import workflow_service_pb2 as wire
from tests.integration.sdk import workflow_app
from tests.integration.sdk.test_documented_code import blocks
from tests.support.eventually import eventually
from tests.support.processes import RunningBroker, StartWorker

WITHIN_S = 60.0
Hyrex = Callable[..., str]


@pytest.fixture
def hyrex(broker: RunningBroker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hyrex]:
    """The program, at a broker."""
    monkeypatch.setenv("HYREX_BROKER_URL", broker.url)

    def run(*arguments: str, status: int = 0) -> str:
        done = CliRunner().invoke(program, arguments, env={"COLUMNS": "200"})
        said = done.output if done.exception is None else f"{done.output}{done.exception}"
        assert (done.exit_code != 0) == (status != 0), said
        return said

    yield run
    close_client()


def got(hyrex: Hyrex, task_id: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(hyrex("workflow", "get", str(task_id), "--json"))
    return found


def test_a_run_is_listed_shown_and_retried(hyrex: Hyrex, start_worker: StartWorker, tmp_path: Path) -> None:
    assert "no workflows" in hyrex("workflow", "list")
    start_worker("tests.integration.sdk.workflow_app:app", "-p", "1")
    marker = tmp_path / "marker"
    handle = workflow_app.late.send(str(marker))
    assert not handle.wait(WITHIN_S)
    run = got(hyrex, handle.id)
    assert (run["id"], run["name"], run["state"]) == (str(handle.id), "late", "failed")
    assert (run["ended"], run["nodes"]) == (4, 4)
    assert run["states"] == {"failed": 1, "skipped": 2, "completed": 1}
    nodes = {each["node"]: each for each in run["graph"]}
    assert [(each["state"], each["runs"], each["depth"]) for each in nodes.values()] == [
        ("failed", 1, 0), ("skipped", 0, 1), ("skipped", 0, 2), ("completed", 1, 1),
    ]  # fmt: skip
    assert nodes["anyway"]["after"] == [{"node": "once", "parameter": None, "anyway": True}]
    assert nodes["second"]["after"] == [{"node": "once", "parameter": "number", "anyway": False}]
    text = hyrex("workflow", "get", str(nodes["second"]["id"]))
    assert "4 of 4 nodes ended: 1 failed, 2 skipped, 1 completed" in text
    assert "\n  second " in text
    assert "\n    tell " in text
    assert "~once" in text
    assert "FileNotFoundError" in text
    text = hyrex("task", "get", str(handle.id))
    assert f"it is a workflow: `hyrex workflow get {handle.id}` shows its 4 nodes" in text
    assert "result:" not in text
    (listed,) = json.loads(hyrex("workflow", "list", "--state", "bad", "--json"))["workflows"]
    assert (listed["id"], listed["ended"], listed["nodes"]) == (str(handle.id), 4, 4)
    assert json.loads(hyrex("workflow", "list", "--state", "living", "--json"))["workflows"] == []

    marker.touch()
    assert "requeued" in hyrex("workflow", "retry", str(handle.id))
    assert workflow_app.late.handle(handle.id).wait(WITHIN_S)
    assert got(hyrex, handle.id)["states"] == {"completed": 4}
    assert "has completed: nothing in it" in hyrex("workflow", "retry", str(handle.id), status=1)
    assert "finished" in hyrex("workflow", "cancel", str(handle.id), status=1)
    assert "4 of 4" in hyrex("workflow", "list", "--name", "late")


def test_a_run_that_lives_is_cancelled_by_the_id_of_a_node(hyrex: Hyrex) -> None:
    handle = workflow_app.late.send("nothing")
    node = str(handle.nodes["second"].id)
    run = got(hyrex, node)
    assert (run["state"], run["ended"]) == ("queued", 0)
    (listed,) = json.loads(hyrex("workflow", "list", "--json"))["workflows"]
    assert (listed["state"], listed["ended"], listed["took_seconds"]) == ("queued", 0, None)
    assert "not_final" in hyrex("workflow", "retry", node, status=1)
    assert str(handle.id) in hyrex("workflow", "cancel", node, "--reason", "not needed")
    eventually(lambda: got(hyrex, handle.id)["states"] == {"cancelled": 4}, WITHIN_S)


def test_only_a_look_at_one_run_has_its_nodes_sent(hyrex: Hyrex, monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(workflow_app.late.send("nothing").id)
    answers: list[int] = []
    parse = wire.GetWorkflowResponse.FromString

    def noted(raw: bytes) -> wire.GetWorkflowResponse:
        answers.append(len(parse(raw).nodes))
        return parse(raw)

    monkeypatch.setattr(wire.GetWorkflowResponse, "FromString", noted)
    assert "0 of 4" in hyrex("workflow", "list")
    hyrex("workflow", "retry", root, status=1)
    hyrex("workflow", "cancel", root)
    assert answers == [0, 0, 0]
    hyrex("workflow", "get", root)
    assert answers[3:] == [4]


def test_of_runs_with_very_many_nodes_the_list_does_not_look_at_all(
    hyrex: Hyrex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow, "_NODES_LOOKED_AT", 6)
    for _ in range(2):
        workflow_app.late.send("nothing")
    runs = json.loads(hyrex("workflow", "list", "--json"))["workflows"]
    assert [each["ended"] for each in runs] == [0, None]
    assert "? of 4" in hyrex("workflow", "list")


def test_what_is_no_workflow_is_said(hyrex: Hyrex) -> None:
    assert "no task" in hyrex("workflow", "get", new_task_id(), status=1)
    assert "must be a UUID" in hyrex("workflow", "cancel", "nonsense", status=2)
    assert "no state 'odd'; there are: living, bad, completed" in hyrex(
        "workflow", "list", "--state", "odd", status=2
    )
    plain = json.loads(hyrex("task", "send", "charge", "--json"))["id"]
    assert "is neither a workflow nor a node of one" in hyrex("workflow", "retry", plain, status=1)


def test_the_recipe_runs_a_workflow_once_for_each_slot(
    hyrex: Hyrex, start_worker: StartWorker, tmp_path: Path
) -> None:
    (recipe,) = (each for each in blocks("docs/howto/workflows.md") if "start_nightly" in each)
    (tmp_path / "reports.py").write_text(recipe)
    start_worker("reports:app", "-p", "1", env={"HYREX_APP_DIR": str(tmp_path)})
    eventually(lambda: "start_nightly" in hyrex("schedule", "list"), WITHIN_S)
    since = datetime.now(UTC) - timedelta(days=2)
    filled = json.loads(hyrex("schedule", "backfill", "start_nightly", f"{since:%Y-%m-%dT%H:%M}", "--json"))
    assert filled["stored"] == 2
    starts = [get_task(each["id"]) for each in filled["slots"]]
    flows = [start.result(WITHIN_S) for start in starts]
    assert len(set(flows)) == 2
    assert [get_task(each).wait(WITHIN_S) for each in flows] == [True, True]
    assert "requeued" in hyrex("task", "retry", str(starts[0].id))
    eventually(
        lambda: len(json.loads(hyrex("task", "get", str(starts[0].id), "--json"))["runs"]) == 2, WITHIN_S
    )
    assert get_task(str(starts[0].id)).result(WITHIN_S) == flows[0]
    listed = json.loads(hyrex("workflow", "list", "--name", "nightly", "--json"))["workflows"]
    assert {each["id"] for each in listed} == set(flows)
