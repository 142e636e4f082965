"""The status that a broker gave a call, kept when a message was being written as it came.

Whoever is refused before its message is read (a wrong token, too much in flight) is told so while it still
writes. grpc.aio then gives the call a status of its own, INTERNAL "Internal error from Core", over the one
that came: code, reason and RetryInfo are lost (grpcio 1.85, grpc/grpc#36066).
"""

from typing import Any, Final, TypeVar

__all__ = ["keep_status"]

CallT = TypeVar("CallT")

_BEGINS_IF_ENDED: Final = 'Failed "execute_batch"'
"""What a failed write says where the call has ended: its status has come or is about to."""
_INNER: Final = "_cython_call"


def keep_status(call: CallT) -> CallT:
    """The same call of grpc.aio, whose failed writes leave it the status that it ends with.

    Call this before anything is awaited. A call of another kind is returned as it is.
    """
    inner = getattr(call, _INNER, None)
    if inner is not None:
        setattr(call, _INNER, _Inner(inner))
    return call


class _Inner:
    """What grpc.aio wraps: all of it, but for the status it would be given by a write."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        # What is asked for with each message.
        self.done = inner.done
        self.status = inner.status
        self.receive_serialized_message = inner.receive_serialized_message
        self.send_serialized_message = inner.send_serialized_message

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def set_internal_error(self, text: str) -> None:
        """A write failed. Whoever wrote waits for the status: there must be one, or it waits for ever."""
        if not text.startswith(_BEGINS_IF_ENDED) and not self._inner.done():
            self._inner.set_internal_error(text)
