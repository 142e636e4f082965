"""Errors of middleware, and of what it is around: which of them a run or a send ends with."""

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from hyrex import ArgumentInvalid, Middleware, NonRetryable, RetryAfter, RunInfo, SendInfo, send_many
from hyrex.testing import inline
from tests.unit.sdk.middlewares import alone, around, send_all_async


def test_one_that_raises_before_the_function_fails_the_run_and_the_function_is_not_called() -> None:
    def connect() -> None:
        raise ConnectionError("no database")

    def refuse(self: Any, run: RunInfo) -> Iterator[None]:
        connect()
        yield

    called: list[str] = []
    hy = alone(around(refuse))

    @hy.task(max_retries=2, retry_backoff=0)
    def work() -> None:
        called.append("work")

    with inline(raise_failures=False):
        handle = work.send()
    assert [run.error.type for run in handle.task_runs if run.error] == ["ConnectionError"] * 3
    assert called == []


def test_one_that_raises_after_the_function_fails_the_run_as_a_commit_does() -> None:
    def commit(self: Any, run: RunInfo) -> Iterator[None]:
        yield
        raise ConnectionError("commit failed")

    hy = alone(around(commit))

    @hy.task
    def work() -> int:
        return 1

    with inline(raise_failures=False):
        handle = work.send()
    (run,) = handle.task_runs
    assert run.error is not None
    assert (run.status, run.error.message) == ("failed", "commit failed")


def test_one_may_raise_another_error_than_the_function_which_decides_about_the_retry() -> None:
    def translate(self: Any, run: RunInfo) -> Iterator[None]:
        try:
            yield
        except LookupError as error:
            raise NonRetryable("gone for good") from error

    hy = alone(around(translate))

    @hy.task(max_retries=3, retry_backoff=0)
    def work() -> None:
        raise LookupError

    with inline(raise_failures=False):
        handle = work.send()
    assert [run.error.type for run in handle.task_runs if run.error] == ["NonRetryable"]


@pytest.mark.parametrize("is_async", [False, True])
async def test_one_that_swallows_the_error_changes_nothing(
    is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def swallow(self: Any, run: RunInfo) -> Iterator[None]:
        try:
            yield
        except ValueError:
            pass

    hy = alone(around(swallow))

    @hy.task
    def work() -> None:
        raise ValueError("real")

    @hy.task
    async def work_later() -> None:
        raise ValueError("real")

    with inline(raise_failures=False):
        handle = await (work_later if is_async else work).send_async()
    (run,) = handle.task_runs
    assert run.error is not None
    assert run.error.message == "real"
    assert "swallowed a ValueError" in caplog.text


def test_a_result_that_cannot_be_stored_and_arguments_that_cannot_be_read_are_seen_and_stay_final() -> None:
    errors: list[str] = []

    def watch(self: Any, run: RunInfo) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            errors.append(type(error).__name__)
            raise RetryAfter(0) from error

    hy = alone(around(watch))

    @hy.task(max_retries=1)
    def unstorable() -> Any:
        return object()

    @hy.task(max_retries=1)
    def picky(n: int) -> None: ...

    with inline(raise_failures=False) as tasks:
        handle = unstorable.send()
        outgoing = picky.call(1)
        outgoing._payload = b'{"n": "no number"}'
        with pytest.raises(ArgumentInvalid), inline():
            send_many([outgoing])
        assert len(tasks.sent) == 1
    assert errors == ["ResultNotSerializable", "ArgumentInvalid"]
    assert [run.error.type for run in handle.task_runs if run.error] == ["ResultNotSerializable"]


def test_what_a_send_raises_or_returns_is_what_the_broker_said(caplog: pytest.LogCaptureFixture) -> None:
    class Late(Middleware):
        @contextmanager
        def around_send(self, send: SendInfo, /) -> Iterator[None]:
            try:
                yield
            finally:
                raise LookupError("too late")

    hy = alone(Late())

    @hy.task
    def work() -> int:
        return 1

    @hy.task
    def broken() -> None:
        raise ZeroDivisionError

    with inline():
        assert work.send().result() == 1
        with pytest.raises(ZeroDivisionError):
            broken.send()
    assert "raised after the tasks were stored" in caplog.text
    assert "raised after the send had failed" in caplog.text


def test_one_that_raises_before_a_send_keeps_it_from_being_sent() -> None:
    class Closed(Middleware):
        def around_send(self, send: SendInfo, /) -> AbstractContextManager[object]:
            raise PermissionError("closed on sundays")

    hy = alone(Closed())

    @hy.task
    def work() -> None: ...

    with inline() as tasks:
        with pytest.raises(PermissionError):
            work.send()
        with pytest.raises(PermissionError):
            asyncio.run(send_all_async([work.call()]))
    assert tasks.sent == []
