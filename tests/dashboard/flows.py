"""Workflows as they are sent over gRPC: names of nodes, and for which others each waits."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import grpc

from hyrex.backend.ids import new_task_id
from hyrex.v1.workflow_service_pb2 import SubmitWorkflowRequest
from hyrex.v1.workflow_service_pb2_grpc import WorkflowServiceStub
from tests.dashboard.shop import WITHIN_S, Shop

NOBODY: Final = "nobody"
"""A queue that no worker serves."""


def send_flow(
    shop: Shop, graph: Mapping[str, Sequence[str]], tasks: Mapping[str, Mapping[str, Any]], **root: Any
) -> dict[str, str]:
    """Store a workflow; the ids of its nodes by name, and the root's as "". After "x!" it runs anyway.
    `tasks`: fields of a node's task; `root`: those of the root."""
    request = SubmitWorkflowRequest()
    terms = {"name": "flow", "queue": NOBODY, "payload": b"{}"}
    ids = {"": new_task_id()}
    for field, value in {**terms, **root, "task_id": ids[""]}.items():
        setattr(request.root, field, value)
    places = {name: place for place, name in enumerate(graph)}
    for name, upstreams in graph.items():
        ids[name] = new_task_id()
        node = request.nodes.add(name=name)
        for field, value in {**terms, "name": name, **tasks.get(name, {}), "task_id": ids[name]}.items():
            setattr(node.task, field, value)
        for each in upstreams:
            node.upstreams.add(node=places[each.rstrip("!")], runs_anyway=each.endswith("!"))
    with grpc.insecure_channel(shop.url.removeprefix("grpc://")) as channel:
        answer = WorkflowServiceStub(channel).SubmitWorkflow(
            request, timeout=WITHIN_S, metadata=shop.metadata
        )
    assert not answer.root.error.reason, answer
    return ids
