"""What the broker refuses, on the wire: one table from domain errors to gRPC statuses and reasons.

A status carries a google.rpc.Status in its trailing metadata (grpc-status-details-bin) with an
ErrorInfo, and a RetryInfo where the call may be repeated. Programs rely on the reason, never on texts.
"""

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, NoReturn

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from hyrex.v1 import error_pb2
from hyrex.v1.task_service_pb2 import ItemError
from hyrex_broker.domain import errors
from hyrex_broker.domain.errors import BrokerError, InvalidField
from hyrex_broker.service.times import duration

DOMAIN: Final = "hyrex.dev"
DETAILS_KEY: Final = "grpc-status-details-bin"
_PREFIX: Final = "ERROR_REASON_"
_RETRY_AFTER: Final = Duration(seconds=1)
_MESSAGE_LIMIT: Final = 1000


class Row(NamedTuple):
    """How one domain error looks on the wire."""

    code: grpc.StatusCode
    reason: error_pb2.ErrorReason.ValueType


_Code = grpc.StatusCode

ROWS: Final[Mapping[type[BrokerError], Row]] = MappingProxyType(
    {
        errors.InvalidField: Row(_Code.INVALID_ARGUMENT, error_pb2.ERROR_REASON_INVALID_FIELD),
        errors.PayloadOverLimit: Row(_Code.INVALID_ARGUMENT, error_pb2.ERROR_REASON_PAYLOAD_TOO_LARGE),
        errors.TooManyItems: Row(_Code.RESOURCE_EXHAUSTED, error_pb2.ERROR_REASON_TOO_MANY_ITEMS),
        errors.TooManyQueues: Row(_Code.RESOURCE_EXHAUSTED, error_pb2.ERROR_REASON_TOO_MANY_ITEMS),
        errors.TaskIdOutOfWindow: Row(_Code.INVALID_ARGUMENT, error_pb2.ERROR_REASON_TASK_ID_OUT_OF_WINDOW),
        errors.TaskIdConflict: Row(_Code.ALREADY_EXISTS, error_pb2.ERROR_REASON_TASK_ID_CONFLICT),
        errors.NoSuchTask: Row(_Code.NOT_FOUND, error_pb2.ERROR_REASON_TASK_NOT_FOUND),
        errors.NoWorkflow: Row(_Code.NOT_FOUND, error_pb2.ERROR_REASON_TASK_NOT_FOUND),
        errors.RowRefused: Row(_Code.FAILED_PRECONDITION, error_pb2.ERROR_REASON_ROW_REFUSED),
        errors.QueueNotFound: Row(_Code.NOT_FOUND, error_pb2.ERROR_REASON_QUEUE_NOT_FOUND),
        errors.QueueInUse: Row(_Code.FAILED_PRECONDITION, error_pb2.ERROR_REASON_QUEUE_IN_USE),
        errors.PeerNotFound: Row(_Code.NOT_FOUND, error_pb2.ERROR_REASON_PEER_NOT_FOUND),
        errors.PageTokenInvalid: Row(_Code.INVALID_ARGUMENT, error_pb2.ERROR_REASON_PAGE_TOKEN_INVALID),
        errors.TokenRefused: Row(_Code.UNAUTHENTICATED, error_pb2.ERROR_REASON_TOKEN_INVALID),
        errors.RightMissing: Row(_Code.PERMISSION_DENIED, error_pb2.ERROR_REASON_RIGHT_MISSING),
        errors.TokenExists: Row(_Code.ALREADY_EXISTS, error_pb2.ERROR_REASON_TOKEN_EXISTS),
        errors.HelloExpected: Row(_Code.FAILED_PRECONDITION, error_pb2.ERROR_REASON_HELLO_EXPECTED),
        errors.ProtocolUnsupported: Row(
            _Code.FAILED_PRECONDITION, error_pb2.ERROR_REASON_PROTOCOL_UNSUPPORTED
        ),
        errors.SessionEnded: Row(_Code.FAILED_PRECONDITION, error_pb2.ERROR_REASON_SESSION_ENDED),
        errors.SessionTakenOver: Row(_Code.ABORTED, error_pb2.ERROR_REASON_SESSION_TAKEN_OVER),
        errors.SessionSecretInvalid: Row(
            _Code.PERMISSION_DENIED, error_pb2.ERROR_REASON_SESSION_SECRET_INVALID
        ),
        errors.FlowControl: Row(_Code.RESOURCE_EXHAUSTED, error_pb2.ERROR_REASON_FLOW_CONTROL),
        errors.Overloaded: Row(_Code.RESOURCE_EXHAUSTED, error_pb2.ERROR_REASON_FLOW_CONTROL),
        errors.TooMuchUnread: Row(_Code.RESOURCE_EXHAUSTED, error_pb2.ERROR_REASON_FLOW_CONTROL),
        errors.ArrivesSlowly: Row(_Code.RESOURCE_EXHAUSTED, error_pb2.ERROR_REASON_FLOW_CONTROL),
        errors.QuotaExceeded: Row(_Code.RESOURCE_EXHAUSTED, error_pb2.ERROR_REASON_QUOTA_EXCEEDED),
        errors.QueueAtMaximum: Row(_Code.RESOURCE_EXHAUSTED, error_pb2.ERROR_REASON_QUOTA_EXCEEDED),
        errors.FeatureNotReady: Row(_Code.FAILED_PRECONDITION, error_pb2.ERROR_REASON_FEATURE_NOT_READY),
        errors.KeyAtMaximum: Row(_Code.FAILED_PRECONDITION, error_pb2.ERROR_REASON_KEY_BUSY),
        errors.StorageUnavailable: Row(_Code.UNAVAILABLE, error_pb2.ERROR_REASON_STORAGE_UNAVAILABLE),
        errors.LanesClosed: Row(_Code.UNAVAILABLE, error_pb2.ERROR_REASON_STORAGE_UNAVAILABLE),
        errors.CellAway: Row(_Code.UNAVAILABLE, error_pb2.ERROR_REASON_STORAGE_UNAVAILABLE),
        errors.SpansCells: Row(_Code.FAILED_PRECONDITION, error_pb2.ERROR_REASON_SPANS_CELLS),
        # While serving, only if a newer version migrates the schema: another broker may be new enough.
        errors.SchemaOutOfRange: Row(_Code.UNAVAILABLE, error_pb2.ERROR_REASON_STORAGE_UNAVAILABLE),
        errors.Draining: Row(_Code.UNAVAILABLE, error_pb2.ERROR_REASON_DRAINING),
    }
)
refused: Final = Counter[str]()
"""How often each reason was told to a caller of this process, of a call or of an item; read by metrics."""
DEFECT: Final = Row(_Code.INTERNAL, error_pb2.ERROR_REASON_INTERNAL)


class Relayed(BrokerError):
    """The refusal of a broker behind this process, which passes it on as it came."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message)
        self.status = status

    @property
    def reason(self) -> str:
        """Its reason; empty if it has none."""
        info = ErrorInfo()
        return next((info.reason for detail in self.status.details if detail.Unpack(info)), "")


def to_status(error: BrokerError) -> Status:
    """The google.rpc.Status of a refused call."""
    if isinstance(error, Relayed):
        refused[error.reason] += 1
        return error.status
    status = _status(ROWS.get(type(error), DEFECT), error.message, error.metadata)
    if isinstance(error, errors.Overloaded):
        status.details.add().Pack(RetryInfo(retry_delay=_RETRY_AFTER))
    elif isinstance(error, errors.QuotaExceeded):
        status.details.add().Pack(RetryInfo(retry_delay=duration(error.retry_after_s * 1000)))
    return status


def defect_status(incident: str) -> Status:
    """The status of a call that failed by a defect of the broker, whose log has details under the
    incident."""
    message = f"the broker failed on this call; look for incident {incident} in its log"
    return _status(DEFECT, message, {"incident": incident})


def to_item_error(error: BrokerError) -> ItemError:
    """The error of one refused item of a batch, with the same meaning as a call's status."""
    if isinstance(error, Relayed):
        return _relayed_item(error)
    row = ROWS.get(type(error), DEFECT)
    refused[reason_name(row)] += 1
    return ItemError(
        code=_number(row.code),
        reason=reason_name(row),
        message=error.message[:_MESSAGE_LIMIT],
        metadata=error.metadata,
        retry_delay=_delay_of(error),
    )


def _delay_of(error: BrokerError) -> Duration | None:
    if isinstance(error, errors.QuotaExceeded):
        return duration(error.retry_after_s * 1000)
    return _RETRY_AFTER if isinstance(error, errors.CellAway) else None


def _relayed_item(error: Relayed) -> ItemError:
    refused[error.reason] += 1
    item = ItemError(code=error.status.code, message=error.status.message[:_MESSAGE_LIMIT])
    info, retry = ErrorInfo(), RetryInfo()
    for detail in error.status.details:
        if detail.Unpack(info):
            item.reason = info.reason
            item.metadata.update(info.metadata)
        elif detail.Unpack(retry):
            item.retry_delay.CopyFrom(retry.retry_delay)
    return item


def reason_name(row: Row) -> str:
    """The reason without its prefix, as an ErrorInfo carries it."""
    return error_pb2.ErrorReason.Name(row.reason).removeprefix(_PREFIX)


def undecodable(error: DecodeError) -> InvalidField:
    """Bytes that are no message; whoever sent them does not speak this protocol."""
    return InvalidField("frame", str(error), "must be a message of the method's type in protobuf's encoding")


async def abort(context: grpc.aio.ServicerContext[Any, Any], status: Status) -> NoReturn:
    """End the call with this status; raises grpc's AbortError."""
    details = ((DETAILS_KEY, status.SerializeToString()),)
    await context.abort(_CODES[status.code], status.message, details)


def _status(row: Row, message: str, metadata: Mapping[str, str]) -> Status:
    status = Status(code=_number(row.code), message=message[:_MESSAGE_LIMIT])
    refused[reason_name(row)] += 1
    info = ErrorInfo(domain=DOMAIN, reason=reason_name(row), metadata=metadata)
    status.details.add().Pack(info)
    if row.code is _Code.UNAVAILABLE:
        status.details.add().Pack(RetryInfo(retry_delay=_RETRY_AFTER))
    return status


def _number(code: grpc.StatusCode) -> int:
    number, _ = code.value
    return int(number)


_CODES: Final = MappingProxyType({_number(code): code for code in grpc.StatusCode})
