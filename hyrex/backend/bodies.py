"""Refuses sends in the body of a workflow: each look at the graph would send such a task, which waits for
nothing."""

from contextvars import ContextVar
from typing import Any, Final

from hyrex.backend.send_spec import SendSpec
from hyrex.errors import WorkflowInvalid

__all__ = ["BODIES", "CURRENT_BODY", "refuse_in_body"]

BODIES: Final[list[object]] = []
"""One entry for each body that runs in this process, on any thread. Nearly always empty: then a send looks no
further."""
CURRENT_BODY: Final[ContextVar[Any]] = ContextVar("hyrex_workflow_building", default=None)
"""The graph of the body that runs here; None outside of one."""


def refuse_in_body(spec: SendSpec) -> None:
    """Raises WorkflowInvalid if the body of a workflow is running here."""
    if CURRENT_BODY.get() is None:
        return
    name, is_workflow = spec.config.name, hasattr(spec.task, "_workflow")
    instead = f"{name}(...)" if is_workflow else f"{name}.node(...)"
    raise WorkflowInvalid(
        f"{name} is sent in the body, which only describes the graph and also runs where nothing is to be "
        f"sent; write {instead} to have it in the graph, or send it before or after the workflow"
    )
