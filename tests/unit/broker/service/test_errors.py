"""The table from domain errors to statuses is whole, and says the same for calls and items."""

import inspect

import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from hyrex.v1.error_pb2 import ErrorReason
from hyrex_broker.domain import errors
from hyrex_broker.domain.errors import BrokerError, Draining, InvalidField, NoSuchTask
from hyrex_broker.service.errors import DEFECT, ROWS, defect_status, to_item_error, to_status

SUBCLASSES = {
    value
    for _, value in inspect.getmembers(errors, inspect.isclass)
    if issubclass(value, BrokerError) and value is not BrokerError
}


def error_info(status: Status) -> ErrorInfo:
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


def test_every_broker_error_has_a_row() -> None:
    assert set(ROWS) == SUBCLASSES


def test_every_reason_of_the_wire_is_used() -> None:
    used = {row.reason for row in ROWS.values()} | {DEFECT.reason}
    assert used == set(ErrorReason.values()) - {0}


def test_a_status_names_domain_reason_and_metadata() -> None:
    status = to_status(NoSuchTask("0199"))
    info = error_info(status)
    assert (status.code, info.domain, info.reason) == (5, "hyrex.dev", "TASK_NOT_FOUND")
    assert dict(info.metadata) == {"task_id": "0199"}
    assert "0199" in status.message


def test_an_unavailable_status_says_when_to_retry() -> None:
    retry = RetryInfo()
    assert to_status(Draining("going")).details[1].Unpack(retry)
    assert retry.retry_delay.seconds == 1


def test_a_refused_call_that_cannot_succeed_says_nothing_of_retrying() -> None:
    assert len(to_status(InvalidField("name", "", "give one")).details) == 1


def test_an_item_error_means_what_the_status_means() -> None:
    error = InvalidField("priority", 11, "use 1..10")
    item, status = to_item_error(error), to_status(error)
    info = error_info(status)
    assert (item.code, item.message) == (status.code, status.message)
    assert (item.reason, dict(item.metadata)) == (info.reason, dict(info.metadata))


def test_a_defect_names_its_incident() -> None:
    status = defect_status("a1b2")
    assert (status.code, error_info(status).metadata["incident"]) == (13, "a1b2")


@pytest.mark.parametrize("length", [10, 100_000])
def test_a_status_fits_into_trailing_metadata(length: int) -> None:
    status = to_status(InvalidField("queue", "x" * length, "shorten it"))
    assert status.ByteSize() < 4096
