"""Tasks that the tests of sending send, and looks into the client that sends them."""

import grpc

from hyrex import HyrexRegistry
from hyrex.client.remote import RemoteBackend
from tests.support.scripted_tasks import refuse

hy = HyrexRegistry(queue="work", max_retries=2)


@hy.task
def add(a: int, b: int = 1) -> int:
    return a + b


@hy.task(timeout_seconds=1.5, priority=9, retry_backoff=30)
def careful(data: dict[str, int]) -> None: ...


def unavailable(context: grpc.ServicerContext) -> None:
    """Answer as a broker without its database does."""
    refuse(context, grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")


def client() -> RemoteBackend:
    """The client of this process."""
    from hyrex.client import process

    assert isinstance(process._remote, RemoteBackend)
    return process._remote


def is_refused() -> bool:
    """Return True if the last attempt to connect failed."""
    life = client()._life
    assert life is not None
    return life.is_refused


def unanswered() -> int:
    """How many tasks this process has asked to store and not heard of."""
    sending = client()
    life = sending._life
    assert life is not None
    assert life._submitter is not None
    return sending._outbox._count + sum(len(frame.tasks()) for frame in list(life._submitter._in_flight))
