"""Workflows: statements of `workflows.sql`."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from hyrex_broker.domain.blocks import TaskBatch, stretched
from hyrex_broker.domain.ids import HexId, hex_id
from hyrex_broker.domain.model import TaskExtras, TaskId
from hyrex_broker.domain.node_runs import NodeRun, UpstreamValue
from hyrex_broker.domain.states import cause_of, standing
from hyrex_broker.domain.workflows import (
    Decided,
    Edge,
    NodeStanding,
    SentNode,
    StandingNodes,
    StoredNode,
    StoredWorkflow,
    TaskKind,
    Workflow,
    edges_of,
    stored,
)
from hyrex_broker.storage.columns import integers, lists_of_ids, texts
from hyrex_broker.storage.follow import SweptPage
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.statements import load
from hyrex_broker.storage.submit import each_or_none, task_columns

_SQL: Final = load("workflows")
_SUBMIT: Final = load("submit")["submit_workflow"]
_NONE: Final = TaskExtras()


class WorkflowStore:
    """Stores and reads workflows. Raises StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.counters = database.counters

    async def submit(self, workflow: Workflow, batch: TaskBatch, hashes: Mapping[HexId, int]) -> bool:
        """Store the tasks of a workflow, which are the batch; False if the root's idempotency key belongs to
        another. `hashes` are those of concurrency keys. Raises StatementRefused: where `is_repetition`, some
        were stored before."""
        of_ids = {hex_id(task_id): each for task_id, each in stored(workflow).items()}
        nodes = [of_ids[digits] for digits in batch.ids]
        row = await self._database.fetchrow(
            _SUBMIT,
            *_node_columns(batch, nodes),
            *_key_columns(batch, hashes),
            workflow.root_id,
            workflow.name,
            workflow.key,
            *task_columns(batch),
        )
        return row is not None and row["stored"] > 0

    async def advance(self, task_ids: Collection[TaskId], most_bytes: int) -> list[Decided]:
        """Decide what has nothing to wait for any more, after these tasks have ended or were blocked."""
        rows = await self._database.fetch_apart(_SQL["advance"], sorted(task_ids), most_bytes)
        return [Decided(TaskId(row[0]), row[1], row[2], row[3]) for row in rows]

    async def due(self, above: TaskId, limit: int) -> SweptPage:
        """What is to be decided, among so many blocked tasks."""
        rows = await self._database.fetch(_SQL["waiting"], above, limit)
        last = next((row["task_id"] for row in rows if row["last"]), None)
        waiting = [row["task_id"] for row in rows if not row["last"]]
        found = await self._database.fetch(_SQL["due"], waiting) if waiting else []
        return SweptPage(
            [TaskId(str(row["id"])) for row in found], None if last is None else TaskId(str(last))
        )

    async def given_up(self, task_ids: Sequence[TaskId]) -> list[TaskId]:
        """Those of these nodes that are still to be cancelled with their workflow."""
        rows = await self._database.fetch(_SQL["given_up"], sorted(task_ids))
        return [TaskId(str(row["decided"])) for row in rows]

    async def runs_of(
        self, task_ids: Sequence[HexId], most_bytes: int, most_bound: int
    ) -> tuple[dict[HexId, NodeRun], int]:
        """What the runs of nodes among these tasks are given, and how many of the tasks were looked up, from
        the first one on: at least one. It stops before the results have more than `most_bytes`, and before
        more than `most_bound` of the tasks are given results."""
        rows = await self._database.fetch(_SQL["nodes"], sorted(task_ids))
        nodes = {hex_id(row["id"]): row for row in rows}
        if not nodes:
            return {}, len(task_ids)
        bound = [
            (place, each) for place, each in enumerate(task_ids) if each in nodes and nodes[each]["binds"]
        ]
        edges, values, count = dict[HexId, list[Edge]](), dict[TaskId, Any](), len(task_ids)
        if bound:
            count = bound[most_bound][0] if len(bound) > most_bound else count
            edges = await self._bound([each for _, each in bound[:most_bound]])
            values, count = await self._results(
                [edges.get(each, ()) for each in task_ids[:count]], most_bytes
            )
        asked = [each for each in task_ids[:count] if each in nodes]
        wanted = sorted({nodes[each]["root"] for each in asked})
        roots = {row["id"]: row for row in await self._database.fetch(_SQL["roots"], wanted)}
        return {
            digits: _run(row["node"], roots.get(row["root"]), _values(edges.get(digits, ()), values))
            for digits, row in ((each, nodes[each]) for each in asked)
        }, count

    async def _bound(self, task_ids: Sequence[HexId]) -> dict[HexId, list[Edge]]:
        """For each of these nodes, the edges by which it is given results."""
        rows = await self._database.fetch(_SQL["said"], sorted(task_ids))
        return {
            hex_id(row["id"]): [edge for edge in edges_of(json.loads(row["workflow"])) if edge.parameter]
            for row in rows
        }

    async def _results(
        self, edges: Sequence[Sequence[Edge]], most_bytes: int
    ) -> tuple[dict[TaskId, Any], int]:
        """The results that nodes are given, and for how many of them, from the first one on, these are
        all."""
        wanted = {edge.task_id for each in edges for edge in each}
        if not wanted:
            return {}, len(edges)
        rows = await self._database.fetch(_SQL["results"], sorted(wanted), most_bytes)
        sizes = {row["id"]: row["size"] for row in rows if row["left_out"]}
        found = {row["id"]: row for row in rows if not row["left_out"]}
        count, more = _fitting(edges, sizes, most_bytes)
        if more:
            rows = await self._database.fetch(_SQL["results"], sorted(more), None)
            found |= {row["id"]: row for row in rows}
        return found, count

    async def of(self, task_id: TaskId) -> StoredWorkflow | None:
        """The workflow of which this is the root or a node; None if of none."""
        row = await self._database.fetchrow(_SQL["graph"], task_id)
        if row is None:
            return None
        nodes = [TaskId(each) for each in reversed(row["nodes"])]
        return StoredWorkflow(TaskId(row["id"]), nodes, "fail_fast" in json.loads(row["workflow"]))

    async def graph(self, workflow: StoredWorkflow) -> list[SentNode]:
        """Its nodes with their upstreams."""
        rows = await self._database.fetch(_SQL["said"], sorted(workflow.nodes))
        known = {each["id"]: each for each in rows}
        places = {task_id: place for place, task_id in enumerate(workflow.nodes)}
        return [_node(each, known.get(each), places) for each in workflow.nodes]

    async def standings(self, workflow: StoredWorkflow) -> list[StandingNodes]:
        """How many of its nodes stand where; those that are gone are missing."""
        rows = await self._database.fetch(_SQL["standings"], sorted(workflow.nodes))
        return [StandingNodes(row["queue"], _standing(row), row["count"]) for row in rows]


def _standing(row: Any) -> NodeStanding:
    return NodeStanding(
        standing(row["live"], row["ran"], row["outcome"]), cause_of(row["outcome"], row["cause"])
    )


def _node(task_id: TaskId, row: Any, places: Mapping[TaskId, int]) -> SentNode:
    """A node; of one that is gone only the id."""
    if row is None:
        return SentNode(task_id, "", ())
    words = json.loads(row["workflow"])
    if row["upstreams"] is None:
        edges = edges_of(words)
    else:
        edges = [Edge(places[TaskId(each)], TaskId(each)) for each in reversed(row["upstreams"])]
    return SentNode(task_id, words["node"], edges, row["kind"] == TaskKind.OUTSIDE)


def _fitting(
    edges: Sequence[Sequence[Edge]], sizes: Mapping[TaskId, int], most_bytes: int
) -> tuple[int, set[TaskId]]:
    """How many nodes, from the first one on, need no more of what has these sizes than so many bytes, or are
    the first one that needs any; and what they need."""
    total, needed = 0, set[TaskId]()
    for place, each in enumerate(edges):
        more = {edge.task_id for edge in each if edge.task_id in sizes} - needed
        total += sum(sizes[task_id] for task_id in more)
        if needed and total > most_bytes:
            return place, needed
        needed |= more
    return len(edges), needed


def _values(edges: Sequence[Edge], results: Mapping[TaskId, Any]) -> list[UpstreamValue]:
    return [
        UpstreamValue(edge.parameter, found["result"] or b"", found["content_type"], found["name"])
        for edge in edges
        if (found := results.get(edge.task_id)) is not None
    ]


def _run(node: str, root: Any, results: Sequence[UpstreamValue]) -> NodeRun:
    if root is None:
        return NodeRun("", node, results, b"")
    return NodeRun(root["name"], node, results, root["payload"], root["content_type"], root["codec"])


def _node_columns(batch: TaskBatch, nodes: Sequence[StoredNode]) -> tuple[object, ...]:
    """The parameters $1..$7."""
    count = len(batch)
    extras = [each.extras or _NONE for each in batch.terms]
    pairs = zip(nodes, stretched(extras, count), strict=True)
    return (
        [each.kind for each in nodes],
        lists_of_ids([each.upstreams for each in nodes]),
        lists_of_ids([each.downstreams for each in nodes]),
        texts([json.dumps(_words(each, own)) for each, own in pairs]),
        each_or_none([each.delay_ms for each in extras], count),
        each_or_none([each.run_at for each in extras], count),
        each_or_none([each.expires_in_ms for each in extras], count),
    )


def _words(node: StoredNode, extras: TaskExtras) -> Mapping[str, Any]:
    """What is stored of a node, with the times that begin when its upstreams have ended, or with a retry."""
    if extras is _NONE or node.kind is TaskKind.ROOT:
        return node.words
    times: dict[str, Any] = {"expires_in_ms": extras.expires_in_ms}
    if node.upstreams:
        times["delay_ms"] = extras.delay_ms or None
        times["run_at_ms"] = None if extras.run_at is None else extras.run_at.timestamp() * 1000
    return node.words | {name: value for name, value in times.items() if value is not None}


def _key_columns(batch: TaskBatch, hashes: Mapping[HexId, int]) -> tuple[object, ...]:
    """The parameters $8..$10."""
    if not any(batch.concurrency_keys):
        return None, None, None
    count = len(batch)
    keys = stretched(batch.concurrency_keys or [None], count)
    extras = [each.extras or _NONE for each in stretched(batch.terms, count)]
    return (
        keys,
        integers([hashes.get(digits) for digits in batch.ids]),
        [own.max_per_key if key is not None else None for own, key in zip(extras, keys, strict=True)],
    )
