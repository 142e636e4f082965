"""From a gRPC status to an exception of the SDK: by code and reason, never by text."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from hyrex.errors import CallRejected, HyrexError, PayloadTooLarge, SendRejected, TaskNotFound, TokenInvalid

__all__ = ["CallFailed", "CallFailure", "call_failure", "item_error"]

DOMAIN: Final = "hyrex.dev"
DETAILS_KEY: Final = "grpc-status-details-bin"
# What a connection that breaks under a call may end as, when no broker gave a reason.
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
    """How a call failed. `repeatable`: the same call may succeed later, here or elsewhere."""

    code: grpc.StatusCode
    message: str
    reason: str
    metadata: Mapping[str, str]

    @property
    def repeatable(self) -> bool:
        """Whether it is worth repeating."""
        if self.reason:
            return self.reason in REPEATABLE_REASONS
        return self.code in BROKEN

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"

    def exception(self) -> HyrexError:
        """The exception that a refused call raises."""
        kind = {"TASK_NOT_FOUND": TaskNotFound, "TOKEN_INVALID": TokenInvalid}.get(self.reason, CallRejected)
        if not self.reason and self.code is grpc.StatusCode.UNAUTHENTICATED:
            kind = TokenInvalid
        return kind(self.message or self.code.name, self.code.name, self.reason, dict(self.metadata))


class CallFailed(Exception):
    """A call that brought no answer. It stays inside the client, which repeats it or says so.

    `shared`: other requests had no answer either, and any of them may be why.
    """

    def __init__(self, failure: CallFailure, *, shared: bool = False) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.shared = shared


def call_failure(error: grpc.aio.AioRpcError) -> CallFailure:
    """What a failed call says."""
    info = _error_info(error)
    if info is None:
        return CallFailure(error.code(), error.details() or "", "", {})
    return CallFailure(error.code(), error.details() or "", info.reason, dict(info.metadata))


def _error_info(error: grpc.aio.AioRpcError) -> ErrorInfo | None:
    packed = dict(error.trailing_metadata() or ()).get(DETAILS_KEY)
    if not isinstance(packed, bytes):
        return None
    info = ErrorInfo()
    try:
        for detail in Status.FromString(packed).details:
            if detail.Unpack(info) and info.domain == DOMAIN:
                return info
    except DecodeError:
        pass  # no broker said this
    return None


def item_error(task_name: str, message: str, reason: str, metadata: Mapping[str, str]) -> HyrexError:
    """The exception for one refused task of a batch."""
    if reason == "PAYLOAD_TOO_LARGE" and {"size_bytes", "limit_bytes"} <= metadata.keys():
        return PayloadTooLarge(task_name, int(metadata["size_bytes"]), int(metadata["limit_bytes"]))
    text = f"the broker refused {task_name}: {message}"
    if reason == "TASK_ID_OUT_OF_WINDOW":
        text += "; new ids are made by the broker's clock from now on: send it again"
    return SendRejected(text, reason, metadata)
