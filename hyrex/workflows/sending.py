"""Sends a workflow: prepares its tasks, stores them together, and returns the handle or raises what went
wrong."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from hyrex.backend.around_sends import hooks_around, store_within, store_within_async
from hyrex.backend.encoding import encoded_many, off_loop
from hyrex.backend.outgoing import Untimely, prepare_many
from hyrex.backend.outgoing_workflow import OutgoingWorkflow
from hyrex.backend.send_spec import SendSpec
from hyrex.backend.tracing import tracer_here
from hyrex.client.process import current_backend
from hyrex.codec import CODECS
from hyrex.errors import PayloadTooLarge
from hyrex.options import checked_texts
from hyrex.runtime.callsite import warn_if_on_loop
from hyrex.workflows.graph import Graph
from hyrex.workflows.handle import WorkflowHandle
from hyrex.workflows.results import RESULT_HEADER, written
from hyrex.workflows.workflow import SendableWorkflow

__all__ = ["send", "send_async"]

_MOST_ARGUMENT_BYTES: Final = 64 * 1024
"""Of a workflow's own arguments: the run of each node is given them. As the broker's."""


def send(workflow: SendableWorkflow[Any, Any], payload: bytes, graph: Graph) -> WorkflowHandle[Any]:
    """Store a workflow."""
    warn_if_on_loop("send")
    specs, payloads = _tasks(workflow, payload, graph)
    sent = _Sent(workflow, graph, specs, encoded_many(specs, payloads) if CODECS else payloads)
    hooks = hooks_around(specs, tracer_here())
    if hooks is None:
        sent.store()
    else:
        store_within(hooks, sent.outgoing.tasks, sent.store)
    return sent.handle


async def send_async(
    workflow: SendableWorkflow[Any, Any], payload: bytes, graph: Graph
) -> WorkflowHandle[Any]:
    """Store a workflow."""
    specs, payloads = _tasks(workflow, payload, graph)
    if CODECS:
        payloads = await off_loop(specs, partial(encoded_many, specs, payloads))
    sent = _Sent(workflow, graph, specs, payloads)
    hooks = hooks_around(specs, tracer_here())
    if hooks is None:
        await sent.store_async()
    else:
        await store_within_async(hooks, sent.outgoing.tasks, sent.store_async)
    return sent.handle


def _tasks(
    workflow: SendableWorkflow[Any, Any], payload: bytes, graph: Graph
) -> tuple[list[SendSpec], list[bytes]]:
    """What is sent: the workflow's own task, then its nodes."""
    spec = workflow._spec
    headers = dict(spec.options.headers)
    if graph.result is not None:
        headers[RESULT_HEADER] = written(graph.result)
    options = replace(spec.options, headers=checked_texts("headers", headers))
    root = SendSpec(spec.task, spec.config, options)
    return [root, *graph.specs], [payload, *graph.payloads]


class _Sent:
    """One send of a workflow: stored for the first time, with other ids if the broker refuses these for their
    time."""

    def __init__(
        self,
        workflow: SendableWorkflow[Any, Any],
        graph: Graph,
        specs: Sequence[SendSpec],
        payloads: Sequence[bytes],
    ) -> None:
        self._graph = graph
        name, decode = workflow._spec.config.name, workflow._spec.task._decode_result
        if len(payloads[0]) > _MOST_ARGUMENT_BYTES:
            raise PayloadTooLarge(name, len(payloads[0]), _MOST_ARGUMENT_BYTES)
        tasks = prepare_many(specs, payloads)
        self.outgoing = OutgoingWorkflow(tasks, graph.names, graph.upstreams, fail_fast=workflow.fail_fast)
        self.handle: WorkflowHandle[Any] = WorkflowHandle(self.outgoing.root.task_id, name, decode=decode)

    def store(self) -> None:
        """Store it."""
        backend = current_backend()
        outcome = backend.store_workflow(self._told())
        if isinstance(outcome, Untimely):
            outcome = backend.store_workflow(self._renewed())
        self.handle.conclude(backend, outcome)

    async def store_async(self) -> None:
        """As store()."""
        backend = current_backend()
        outcome = await backend.store_workflow_async(self._told())
        if isinstance(outcome, Untimely):
            outcome = await backend.store_workflow_async(self._renewed())
        self.handle.conclude(backend, outcome)

    def _told(self) -> OutgoingWorkflow:
        self.handle.sent_as(self.outgoing, self._graph)
        return self.outgoing

    def _renewed(self) -> OutgoingWorkflow:
        self.outgoing = self.outgoing.renewed()
        return self._told()
