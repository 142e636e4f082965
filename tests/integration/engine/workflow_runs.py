"""Workflows on a bench: as they are sent, and one worker that runs their nodes."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hyrex.v1.workflow_service_pb2 import SubmitWorkflowRequest
from hyrex_broker.domain.model import Outcome, TaskId
from hyrex_broker.engine.submit.answers import Answer
from hyrex_broker.service.graphs import GraphReader
from hyrex_broker.service.groups import SubmitReader
from tests.integration.engine.bench import Bench, Link
from tests.integration.storage.stage import end_of, make_id
from tests.support.assigned import AssignedRun

LIMIT = 4 * 1024 * 1024


def sent(
    graph: Mapping[str, Sequence[str]], *, fail_fast: bool = False, queue: str = "default", **tasks: Any
) -> SubmitWorkflowRequest:
    """A workflow of nodes by name, with those for which each waits: "x!" runs anyway, "x=p" binds its result
    to the parameter p. `tasks`: fields of a node's task, by the node's name."""
    request = SubmitWorkflowRequest(fail_fast=fail_fast)
    root = request.root
    root.task_id, root.name, root.queue, root.payload = make_id(), "flow", queue, b'{"day": 1}'
    places: dict[str, int] = {}
    for name, upstreams in graph.items():
        node = request.nodes.add(name=name)
        task = node.task
        task.task_id, task.name, task.queue, task.payload = make_id(), "work", queue, b"{}"
        for each in upstreams:
            plain, _, parameter = each.rstrip("!").partition("=")
            node.upstreams.add(node=places[plain], parameter=parameter, runs_anyway=each.endswith("!"))
        for option, value in tasks.get(name, {}).items():
            setattr(task, option, value)
        places[name] = len(places)
    return request


@dataclass
class Runs:
    """A workflow that was stored, and the worker that runs its nodes."""

    bench: Bench
    link: Link
    root: TaskId
    ids: dict[str, TaskId]
    done: int = 0
    order: list[str] = field(default_factory=list)

    def name_of(self, run: AssignedRun) -> str:
        return next(name for name, task_id in self.ids.items() if task_id == run.task_id)

    async def next(self) -> tuple[str, AssignedRun]:
        """The next run that the worker is given."""
        run = (await self.link.until_runs(self.done + 1))[self.done]
        self.done += 1
        self.order.append(self.name_of(run))
        return self.order[-1], run

    async def end(self, run: AssignedRun, outcome: Outcome = Outcome.COMPLETED, result: bytes = b"1") -> None:
        ended = end_of(run, outcome)
        ended.result = result
        await self.bench.report([ended])

    async def step(self, outcome: Outcome = Outcome.COMPLETED, result: bytes = b"1") -> str:
        """The next run ends so; its node."""
        name, run = await self.next()
        await self.end(run, outcome, result)
        return name

    async def state(self, name: str = "") -> tuple[int, int | None]:
        """The outcome and the cause of a node's newest run, or of the root's."""
        row = await self.bench.database.fetchrow(
            "select outcome, cause from task_run where task_id = $1 order by run_number desc limit 1",
            self.ids[name] if name else self.root,
        )
        return (row["outcome"], row["cause"]) if row is not None else (0, None)

    async def ended(self) -> int:
        """The outcome of the root, once it has ended."""
        return int(await self.until(self._outcome))

    async def until(self, look: Callable[[], Any]) -> Any:
        """What this finds, once it finds anything."""
        async with asyncio.timeout(60):
            while not (found := await look()):
                await asyncio.sleep(0.01)
        return found

    async def _outcome(self) -> int | None:
        row = await self.bench.database.fetchrow(
            "select outcome from task_run r where task_id = $1"
            " and not exists (select from live where live.task_id = r.task_id)"
            " order by run_number desc limit 1",
            self.root,
        )
        return None if row is None else row["outcome"]

    async def result(self) -> Any:
        """The root's result."""
        row = await self.bench.database.fetchrow(
            "select result, error_type, error_message from task_run where task_id = $1"
            " order by run_number desc limit 1",
            self.root,
        )
        assert row is not None
        return json.loads(row["result"]) if row["result"] else (row["error_type"], row["error_message"])

    async def left(self) -> list[str]:
        """Which of its tasks live."""
        rows = await self.bench.database.fetch(
            "select task_id::text as id from live where task_id = any ($1::uuid[])",
            [self.root, *self.ids.values()],
        )
        names = {task_id: name for name, task_id in self.ids.items()} | {self.root: ""}
        return sorted(names[TaskId(row["id"])] for row in rows)


async def store(bench: Bench, request: SubmitWorkflowRequest) -> Answer:
    """Store a workflow as the service does."""
    copy = SubmitWorkflowRequest.FromString(request.SerializeToString())
    return await bench.engine.workflows.submit(GraphReader(SubmitReader(LIMIT)).read(copy))


async def begun(bench: Bench, request: SubmitWorkflowRequest, capacity: int = 1) -> Runs:
    """A stored workflow, and a worker for its nodes."""
    await store(bench, request)
    _, link = await bench.worker(capacity)
    ids = {node.name: TaskId(node.task.task_id) for node in request.nodes}
    return Runs(bench, link, TaskId(request.root.task_id), ids)
