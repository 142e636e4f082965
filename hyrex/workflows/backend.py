"""The backend of this process, where it takes workflows."""

from hyrex.backend.protocol import WorkflowBackend
from hyrex.client.process import current_backend
from hyrex.errors import CallRejected

__all__ = ["workflow_backend"]


def workflow_backend() -> WorkflowBackend:
    """The backend of this process. Raises CallRejected if it is none that takes workflows."""
    backend = current_backend()
    if not isinstance(backend, WorkflowBackend):
        raise CallRejected(
            "brokers of this version take no workflows: run this one in hyrex.testing.inline()",
            "UNIMPLEMENTED",
        )
    return backend
