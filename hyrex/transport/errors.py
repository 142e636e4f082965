"""Makes exceptions of the SDK from gRPC statuses: by code and reason, never by text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from hyrex.errors import (
    CallRejected,
    HyrexError,
    KeyBusy,
    PayloadTooLarge,
    QueueFull,
    SendRejected,
    TaskNotFound,
    TokenInvalid,
)

__all__ = ["CallFailed", "CallFailure", "call_failure", "item_error"]

DOMAIN: Final = "hyrex.dev"
DETAILS_KEY: Final = "grpc-status-details-bin"
# The codes with which a call may end when its connection breaks, and no broker gave a reason.
BROKEN: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
    }
)
REPEATABLE_REASONS: Final = frozenset({"STORAGE_UNAVAILABLE", "DRAINING"})


@dataclass(frozen=True, slots=True)
class CallFailure:
    """How a call failed. `retry_after_s`: the broker asks for a repeat, no sooner than that."""

    code: grpc.StatusCode
    message: str
    reason: str
    metadata: Mapping[str, str]
    retry_after_s: float | None = None

    @property
    def repeatable(self) -> bool:
        """True if the same call may succeed later, at this or at another broker."""
        if self.retry_after_s is not None:
            return True
        if self.reason:
            return self.reason in REPEATABLE_REASONS
        return self.code in BROKEN

    @property
    def ran_out_of_time(self) -> bool:
        """True if it only reached its own deadline."""
        return self.code is grpc.StatusCode.DEADLINE_EXCEEDED

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"

    def exception(self) -> HyrexError:
        """The exception that a refused call raises."""
        kind = {"TASK_NOT_FOUND": TaskNotFound, "TOKEN_INVALID": TokenInvalid}.get(self.reason, CallRejected)
        if not self.reason and self.code is grpc.StatusCode.UNAUTHENTICATED:
            kind = TokenInvalid
        return kind(self.message or self.code.name, self.code.name, self.reason, dict(self.metadata))


class CallFailed(Exception):
    """A call that got no answer. Only inside the client, which repeats the call or raises another error.

    `shared`: other requests got no answer either, and any of them may be the reason.
    """

    def __init__(self, failure: CallFailure, *, shared: bool = False) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.shared = shared


def call_failure(error: Any) -> CallFailure:
    """The failure in an AioRpcError, or in the RpcError of a blocking call."""
    info, retry_after_s = ErrorInfo(), None
    try:
        for detail in _details(error):
            retry, found = RetryInfo(), ErrorInfo()
            if detail.Unpack(retry):
                retry_after_s = max(0.0, retry.retry_delay.ToTimedelta().total_seconds())
            elif detail.Unpack(found) and found.domain == DOMAIN:
                info = found
    except DecodeError:
        pass  # without details: it does not come from a broker
    return CallFailure(error.code(), error.details() or "", info.reason, dict(info.metadata), retry_after_s)


def _details(error: Any) -> Sequence[Any]:
    packed = dict(error.trailing_metadata() or ()).get(DETAILS_KEY)
    return Status.FromString(packed).details if isinstance(packed, bytes) else ()


def item_error(task_name: str, message: str, reason: str, metadata: Mapping[str, str]) -> HyrexError:
    """The exception for one refused task of a batch."""
    if reason == "PAYLOAD_TOO_LARGE" and {"size_bytes", "limit_bytes"} <= metadata.keys():
        return PayloadTooLarge(task_name, int(metadata["size_bytes"]), int(metadata["limit_bytes"]))
    text = f"the broker refused {task_name}: {message}"
    if reason == "QUOTA_EXCEEDED" and {"queue", "limit"} <= metadata.keys():
        return QueueFull(text, reason, metadata)
    if reason == "KEY_BUSY":
        return KeyBusy(text, reason, metadata)
    if reason == "TASK_ID_OUT_OF_WINDOW":
        text += "; new ids are made by the broker's clock from now on: send it again"
    return SendRejected(text, reason, metadata)
