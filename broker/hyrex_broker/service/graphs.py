"""Workflows as they are sent: the graph is checked, then its tasks as all others are."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from xxhash import xxh3_64_intdigest

from hyrex.v1 import task_pb2
from hyrex.v1.workflow_service_pb2 import SubmitWorkflowRequest, WorkflowNode
from hyrex_broker.domain.blocks import NO_TRACE, TRACE_BYTES, TaskBlock
from hyrex_broker.domain.errors import InvalidField, PayloadOverLimit, TooManyItems
from hyrex_broker.domain.ids import HexId, hex_id
from hyrex_broker.domain.model import TaskId
from hyrex_broker.domain.workflows import (
    ARGUMENTS_BYTES,
    LIST_ENDING,
    MOST_NODES,
    MOST_UPSTREAMS,
    Edge,
    SentNode,
    Workflow,
)
from hyrex_broker.engine.workflows import RefusedNode
from hyrex_broker.service import fields
from hyrex_broker.service.groups import SubmitReader
from hyrex_broker.service.terms import refuse_unknown

_HALF: Final = 1 << 63
_OF_RUNS: Final = (
    "max_retries", "timeout", "retry_delay", "expires_in", "debounce_key", "debounce_max_wait",
    "concurrency_key", "max_per_key", "on_full", "fair_key", "outside",
)  # fmt: skip
"""What a root does not take, since no worker runs it."""
_OF_ALONE: Final = ("parent_id", "root_id", "idempotency_key", "debounce_key", "debounce_max_wait")
"""What a node does not take, since it is one of a workflow."""
_OF_ASSIGNED: Final = ("delay", "run_at", "concurrency_key", "max_per_key", "fair_key")
"""What an approval does not take, since it is never given to a worker."""


class GraphReader:
    """Makes workflows of what is sent."""

    def __init__(self, tasks: SubmitReader) -> None:
        self._tasks = tasks

    def read(self, request: SubmitWorkflowRequest) -> Workflow:
        """A workflow that may be stored; the request is taken apart. Raises InvalidField and TooManyItems if
        it is none, RefusedNode if one of its tasks may not be stored."""
        _refuse_unknown(request)
        _check_counts(request)
        root_id = fields.task_id(request.root.task_id, "root.task_id")
        nodes = _nodes(request.nodes)
        _check_ids(root_id, nodes)
        _check_root(request.root)
        for place, wire in enumerate(request.nodes):
            _check_task(wire, f"nodes[{place}].task")
            wire.task.parent_id = wire.task.root_id = root_id
        _hand_on_start(request)
        key, name = request.root.idempotency_key or None, request.root.name
        blocks = self._blocks(request, nodes)
        _cover_graph(root_id, nodes, blocks, fail_fast=request.fail_fast)
        return Workflow(root_id, name, nodes, request.fail_fast, blocks, key)

    def _blocks(self, request: SubmitWorkflowRequest, nodes: Sequence[SentNode]) -> list[TaskBlock]:
        context = _trace_context(request.trace_context)
        found = self._tasks.tasks([request.root, *(node.task for node in request.nodes)])
        for place, error in sorted(found.refused.items()):
            raise RefusedNode(nodes[place - 1].name if place else "", error)
        blocks = [block for block, _ in found.blocks]
        if context is not None:
            for block in blocks:
                block.trace_contexts = [context] * len(block)
        return blocks


def _trace_context(sent: bytes) -> bytes | None:
    if len(sent) not in (0, TRACE_BYTES):
        raise InvalidField("trace_context", f"{len(sent)} bytes", f"must have {TRACE_BYTES} bytes or none")
    return None if sent in (b"", NO_TRACE) else sent


def _refuse_unknown(request: SubmitWorkflowRequest) -> None:
    """Refuse fields that this broker does not know; those of tasks are refused with these."""
    known = SubmitWorkflowRequest()
    known.CopyFrom(request)
    known.DiscardUnknownFields()
    if known.ByteSize() == request.ByteSize():
        return  # a tenth of a look at each message
    refuse_unknown(request, "workflow")
    for place, wire in enumerate(request.nodes):
        refuse_unknown(wire, f"nodes[{place}]")
        for number, upstream in enumerate(wire.upstreams):
            refuse_unknown(upstream, f"nodes[{place}].upstreams[{number}]")


def _check_counts(request: SubmitWorkflowRequest) -> None:
    if not request.nodes:
        raise InvalidField(
            "nodes", 0, f"must be 1 to {MOST_NODES}: a workflow without nodes has nothing to do"
        )
    if len(request.nodes) > MOST_NODES:
        raise TooManyItems(len(request.nodes), MOST_NODES)
    edges = sum(len(node.upstreams) for node in request.nodes)
    if edges > MOST_UPSTREAMS:
        remedy = f"must be at most {MOST_UPSTREAMS} in all; put a node between that joins some of them"
        raise InvalidField("nodes.upstreams", edges, remedy)
    size = len(request.root.payload)
    if size > ARGUMENTS_BYTES:
        raise PayloadOverLimit("root.payload", size, ARGUMENTS_BYTES)


def _nodes(sent: Sequence[WorkflowNode]) -> list[SentNode]:
    nodes: list[SentNode] = []
    for place, wire in enumerate(sent):
        at = f"nodes[{place}]"
        name = fields.name(wire.name, f"{at}.name")
        task_id = fields.task_id(wire.task.task_id, f"{at}.task.task_id")
        if wire.approval or wire.task.outside:
            wire.approval = wire.task.outside = True
        nodes.append(SentNode(task_id, name, list(_edges(wire, at, nodes)), wire.approval))
    name, count = Counter(node.name for node in nodes).most_common(1)[0]
    if count > 1:
        raise InvalidField("nodes.name", name, f"is the name of {count} nodes: each must have another one")
    return nodes


def _require_free(parameter: str, taken: Collection[str], field: str) -> None:
    """Raises InvalidField where a parameter has no name, or is given two results that are not one list."""
    name = parameter.removesuffix(LIST_ENDING)
    if not name:
        raise InvalidField(field, parameter, "must have the parameter's name before []")
    is_list = name != parameter
    if (name if is_list else f"{name}{LIST_ENDING}") in taken or (not is_list and parameter in taken):
        remedy = "is given the result of another node already; with [] at its end it is a list of results"
        raise InvalidField(field, parameter, remedy)


def _edges(wire: WorkflowNode, at: str, before: Sequence[SentNode]) -> Iterator[Edge]:
    parameters = set[str]()
    for number, upstream in enumerate(wire.upstreams):
        place, parameter = upstream.node, upstream.parameter
        if not 0 <= place < len(before):
            remedy = (
                f"must be the place of a node before it (0 to {len(before) - 1}): no node waits for itself,"
                " for a later one or for one of another workflow"
                if before
                else "must be left out: no node stands before the first one"
            )
            raise InvalidField(f"{at}.upstreams[{number}].node", place, remedy)
        if parameter:
            field = f"{at}.upstreams[{number}].parameter"
            parameter = fields.short_text(parameter, field) or ""
            _require_free(parameter, parameters, field)
            parameters.add(parameter)
        yield Edge(place, before[place].task_id, parameter, upstream.runs_anyway)


def _check_ids(root_id: TaskId, nodes: Sequence[SentNode]) -> None:
    seen = {root_id}
    for place, node in enumerate(nodes):
        if node.task_id in seen:
            remedy = "is that of another task of the workflow; make a new id"
            raise InvalidField(f"nodes[{place}].task.task_id", node.task_id, remedy)
        seen.add(node.task_id)


def _check_root(root: task_pb2.NewTask) -> None:
    _refuse_set(root, "root", _OF_RUNS, "is for tasks that a worker runs: give it to the nodes")


def _check_task(wire: WorkflowNode, at: str) -> None:
    task = wire.task
    # A look at each costs a tenth of a list of what is set.
    if (
        task.parent_id
        or task.root_id
        or task.idempotency_key
        or task.debounce_key
        or task.HasField("debounce_max_wait")
    ):
        remedy = "is for tasks that are no nodes: leave it out, or give it to the root"
        _refuse_set(task, at, _OF_ALONE, remedy)
    if wire.task.on_full == task_pb2.ON_FULL_REFUSE:
        raise InvalidField(f"{at}.on_full", "ON_FULL_REFUSE", "must be ON_FULL_WAIT: no node is left out")
    if wire.approval:
        _refuse_set(wire.task, at, _OF_ASSIGNED, "is for tasks that a worker runs: this one waits for a call")


def _refuse_set(task: task_pb2.NewTask, at: str, names: Sequence[str], remedy: str) -> None:
    given = {field.name: value for field, value in task.ListFields()}
    for name in names:
        if name in given:
            raise InvalidField(f"{at}.{name}", str(given[name]).strip(), remedy)


def _hand_on_start(request: SubmitWorkflowRequest) -> None:
    """The root's delay or time holds for nodes that wait for nothing else and say neither."""
    start = request.root.WhichOneof("start")
    if start is None:
        return
    for node in request.nodes:
        if not node.upstreams and not node.approval and node.task.WhichOneof("start") is None:
            getattr(node.task, start).CopyFrom(getattr(request.root, start))
    request.root.ClearField(start)


def _cover_graph(
    root_id: TaskId, nodes: Sequence[SentNode], blocks: Sequence[TaskBlock], *, fail_fast: bool
) -> None:
    """Make the root's digest one over the whole workflow: the same id with another graph is another one."""
    digests: dict[HexId, int] = {}
    for block in blocks:
        digests |= dict(zip(block.ids, block.digests, strict=True))
    root = hex_id(root_id)
    words = [f"{digests[root]} {fail_fast}"]
    for node in nodes:
        edges = [f"{edge.place} {edge.runs_anyway} {edge.parameter}\0" for edge in node.edges]
        words.append(f"{node.name}\0{digests[hex_id(node.task_id)]} {node.approval} {''.join(edges)}")
    whole = xxh3_64_intdigest("\0\0".join(words).encode()) - _HALF
    for block in blocks:
        if root in block.ids:
            block.digests = [
                whole if digits == root else digest
                for digits, digest in zip(block.ids, block.digests, strict=True)
            ]
