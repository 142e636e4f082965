"""Approvals: tasks that nobody runs, defined by a stub or a name, and ended by complete()."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

import hyrex
from hyrex import ArgumentInvalid, HyrexRegistry, NotWaiting, TaskFailed, TaskNotFound, TaskStatus
from hyrex.backend.outgoing import prepare
from hyrex.testing import inline
from hyrex.transactions.statement import refuse_keys
from hyrex.transport import convert
from hyrex.v1 import task_service_pb2
from tests.support.groups import ungrouped

hy = HyrexRegistry(queue="desk", max_retries=3)


@hy.approval(expires_in=timedelta(days=2), labels={"team": "x"})
def refund(order: int, amount: int = 5) -> bool:
    raise AssertionError("nobody runs it")


anything = hy.approval("sign", priority=9)


@hy.task
def plain() -> int:
    return 1


def sent(task: Any) -> Any:
    groups, _ = convert.submit_groups([prepare(task._spec, b"{}")])
    return next(ungrouped(task_service_pb2.StreamSubmitRequest.FromString(groups).groups))


def test_it_is_sent_as_a_task_that_no_worker_runs() -> None:
    """Without the retries that the registry gives to others."""
    task = sent(refund)
    assert (task.outside, task.name, task.queue, task.max_retries) == (True, "refund", "desk", 0)
    assert (task.expires_in.seconds, dict(task.labels)) == (2 * 86400, {"team": "x"})
    assert (sent(anything).outside, sent(anything).name, sent(anything).priority) == (True, "sign", 9)
    assert not sent(plain).outside


def test_no_worker_learns_of_it_and_nobody_calls_it() -> None:
    assert list(hy.tasks) == ["plain"]
    with pytest.raises(TypeError, match="refund is an approval, which nobody runs"):
        refund(7)


@pytest.mark.parametrize("option", ["max_retries", "timeout_seconds", "cron", "on_error", "surprise"])
def test_it_has_no_options_of_runs(option: str) -> None:
    with pytest.raises(TypeError, match=f"an approval has no option '{option}'; it has name, queue"):
        hy.approval("other", **{option: 1})


def test_complete_ends_it_once_with_what_fits_its_type() -> None:
    with inline():
        handle = refund.send(7)
        assert handle.status is TaskStatus.BLOCKED
        with pytest.raises(TimeoutError, match="refund waits for somebody to complete"):
            handle.result()
        with pytest.raises(ArgumentInvalid, match="cannot end with 'maybe'"):
            handle.complete("maybe")
        with pytest.raises(ArgumentInvalid, match="a result or an error, not both"):
            handle.complete(True, error="no")
        with pytest.raises(ArgumentInvalid, match="must be a JSON value"):
            anything.send({"a": 1}).complete({1, 2})
        assert handle.complete(True, reason="ada")
        assert handle.result() is True
        assert handle.task_runs[0].reason == "ada"
        assert not handle.complete(False)
        assert handle.result() is True


def test_an_error_makes_it_fail() -> None:
    with inline():
        texts = anything.send(None), anything.send(None)
        assert texts[0].complete(error="too dear")
        assert hyrex.complete(texts[1].id, error=ValueError("negative"))
        for handle, told in zip(texts, ("Refused: too dear", "ValueError: negative"), strict=True):
            with pytest.raises(TaskFailed, match=told):
                handle.result()


def test_what_a_worker_runs_and_what_is_unknown_is_said() -> None:
    with inline():
        with pytest.raises(NotWaiting):
            plain.send().complete(1)
        with pytest.raises(TaskNotFound):
            hyrex.complete("0190a6f0-0000-7000-8000-000000000000", 1)
        with pytest.raises(ValueError, match=r"is a UUID, as in handle\.id, got 'no id'"):
            hyrex.complete("no id", 1)
        assert asyncio.run(hyrex.complete_async(refund.send(1).id, True))
        handle = refund.send(1)
        assert handle.cancel()
        assert not handle.complete(True)


def test_a_transaction_does_not_send_it() -> None:
    """The outbox would make a task of it that a worker is asked to run."""
    with pytest.raises(ValueError, match="refund: an approval cannot be sent in a transaction"):
        refuse_keys(refund._spec)
