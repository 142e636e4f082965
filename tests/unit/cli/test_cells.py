"""With HYREX_CELLS commands and workers find the cell of a queue or a task, or ask to be told which."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from uuid import uuid4

import grpc
import pytest
from typer.testing import CliRunner

from hyrex.cli.errors import CommandError
from hyrex.cli.program import program
from hyrex.dashboard.__main__ import _parser, options_of
from hyrex.dashboard.options import OptionsUnusable
from hyrex.v1 import task_pb2
from hyrex.worker.shared.options import WorkerOptions
from tests.support.scripted_tasks import ScriptedTasks, Server, refuse

TEXT = "video*=grpc://localhost:1;*=grpc://localhost:2"
PERMISSION_DENIED = grpc.StatusCode.PERMISSION_DENIED


@dataclass
class Pair:
    """Two cells."""

    video: ScriptedTasks
    rest: ScriptedTasks
    servers: tuple[Server, Server]


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    with ExitStack() as stack:
        tasks = ScriptedTasks(), ScriptedTasks()
        servers = Server(tasks[0]), Server(tasks[1])
        for server in servers:
            stack.callback(server.stop)
        monkeypatch.setenv("HYREX_CELLS", f"video*={servers[0].url};*={servers[1].url}")
        for name in ("HYREX_BROKER_URL", "HYREX_TOKEN", "HYREX_TOKEN_FILE"):
            monkeypatch.delenv(name, raising=False)
        yield Pair(*tasks, servers)


def hyrex(*arguments: str) -> str:
    """What a command prints. Raises what ends it."""
    found = CliRunner().invoke(program, arguments)
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.output


def put(tasks: ScriptedTasks) -> str:
    """A task in a cell, that has ended."""
    task_id = str(uuid4())
    tasks.put(task_pb2.Task(task_id=task_id, name="add", status=task_pb2.TASK_STATUS_COMPLETED))
    return task_id


def test_a_task_is_shown_and_cancelled_in_whichever_cell_has_it(pair: Pair) -> None:
    one, other, nowhere = put(pair.video), put(pair.rest), str(uuid4())
    assert one in hyrex("task", "get", one)
    assert other in hyrex("task", "get", other)
    printed = hyrex("task", "cancel", one, other, nowhere)
    assert [printed.count(each) for each in (one, other, nowhere)] == [1, 1, 1]
    assert (pair.video.cancelled, pair.rest.cancelled) == ([one, nowhere], [other])


def test_a_task_is_sent_to_its_queues_cell(pair: Pair) -> None:
    hyrex("task", "send", "add", "{}", "--queue", "video-hd")
    hyrex("task", "send", "add", "{}")
    assert [len(each.submitted) for each in (pair.video, pair.rest)] == [1, 1]


def test_a_task_is_nowhere_only_when_every_cell_has_said_so(pair: Pair) -> None:
    task_id = str(uuid4())
    with pytest.raises(CommandError, match="scripted"):
        hyrex("task", "get", task_id)
    pair.video.failures = [lambda context: refuse(context, PERMISSION_DENIED, "RIGHT_MISSING")]
    with pytest.raises(CommandError, match=rf"^cannot tell whether cell .* has task {task_id}: scripted$"):
        hyrex("task", "get", task_id)
    pair.servers[0].stop()
    with pytest.raises(CommandError, match=rf"^cannot tell whether cell 'video\*' .* has task {task_id}: "):
        hyrex("task", "get", task_id)


@pytest.mark.parametrize(
    "command",
    [("queue", "list"), ("worker", "list"), ("top",), ("task", "list"), ("broker", "health"), ("dashboard",),
     ("schedule", "list"), ("schedule", "pause", "x"),
     ("task", "cancel", "--where", "queue:a", "--yes")],
    ids=" ".join,
)  # fmt: skip
def test_a_command_about_one_cell_asks_which(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYREX_CELLS", TEXT)
    monkeypatch.delenv("HYREX_BROKER_URL", raising=False)
    with pytest.raises(CommandError, match="HYREX_CELLS has 2 cells") as caught:
        hyrex(*command)
    text = str(caught.value)
    assert "say which with --broker-url. grpc://localhost:1 (video*); grpc://localhost:2 (*)" in text
    assert caught.value.status == 2


def test_a_cell_that_is_named_is_asked(pair: Pair) -> None:
    task_id = put(pair.video)
    with pytest.raises(CommandError, match="scripted"):
        hyrex("task", "get", task_id, "--broker-url", pair.servers[1].url)


def test_a_dashboard_shows_the_cell_that_is_named() -> None:
    given = _parser().parse_args([])
    with pytest.raises(OptionsUnusable, match="a dashboard shows one: say which with --broker-url"):
        options_of(given, {"HYREX_CELLS": TEXT})
    named = options_of(given, {"HYREX_CELLS": TEXT, "HYREX_BROKER_URL": "grpc://localhost:2"})
    assert named.broker_url == "grpc://localhost:2"


def test_a_worker_serves_the_cell_of_its_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYREX_CELLS", TEXT)
    monkeypatch.delenv("HYREX_BROKER_URL", raising=False)
    monkeypatch.delenv("HYREX_TOKEN", raising=False)
    found = [
        WorkerOptions(target="a:b", queues=queues).resolved().broker_url
        for queues in (("video", "video-hd*"), ("mail",))
    ]
    assert found == ["grpc://localhost:1", "grpc://localhost:2"]
    with pytest.raises(ValueError, match=r"its queues \(\*\) belong to 2: say which with --broker-url"):
        WorkerOptions(target="a:b").resolved()
    named = WorkerOptions(target="a:b", broker_url="grpc://localhost:3").resolved()
    assert named.broker_url == "grpc://localhost:3"


def test_a_workers_token_goes_to_no_cell_without_encryption(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYREX_CELLS", "video=grpc://elsewhere:1;*=grpc://localhost:2")
    monkeypatch.delenv("HYREX_TOKEN", raising=False)
    with pytest.raises(ValueError, match="pattern 'video': the token would cross the network unencrypted"):
        WorkerOptions(target="a:b", token="secret", broker_url="grpc://localhost:2").resolved()
