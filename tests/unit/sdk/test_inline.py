"""Inline tasks obey the rules of real ones: round trip, context, retries, errors, parents."""

import asyncio
import logging
import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from hyrex import (
    ArgumentInvalid,
    HyrexRegistry,
    NonRetryable,
    ResultNotSerializable,
    RetryAfter,
    TaskFailed,
    TaskNotFound,
    get_hyrex_context,
    get_task,
    replay,
    send_many,
    wait_all,
)
from hyrex.testing import InlineTasks, inline
from tests.unit.sdk.inline_tasks import child, hy, see, seen, sleepy


class Order(BaseModel):
    order_id: int
    when: datetime


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seen.clear()


@hy.task
def invoice(order: Order, lines: list[dict[str, Any]]) -> tuple[Order, int]:
    see()
    lines.append({})
    return order, len(lines)


@hy.task(max_retries=2, retry_backoff=3600)
def flaky(succeeds_at: int) -> str:
    if see().attempt_number < succeeds_at:
        raise ConnectionError("not yet")
    return "done"


@hy.task
def parent(n: int) -> list[int]:
    see()
    return [handle.result() for handle in send_many(child.call(k) for k in range(n))]


def test_arguments_and_result_make_the_full_round_trip() -> None:
    order, lines = Order(order_id=1, when=datetime(2026, 1, 1, tzinfo=UTC)), [{"a": 1}]
    with inline():
        handle = invoice.send(order, lines)
    assert handle.result() == (order, 2)
    assert handle.result()[0] is not order
    assert lines == [{"a": 1}]
    assert (handle.status, len(handle.task_runs)) == ("completed", 1)
    run = handle.task_runs[0]
    assert (run.status, run.worker, run.result) == ("completed", "inline", (order, 2))


def test_bad_arguments_and_results_are_refused_as_for_real() -> None:
    @HyrexRegistry().task(max_retries=5)
    def unstorable() -> object:
        see()
        return object()

    with inline() as tasks:
        with pytest.raises(ArgumentInvalid):
            invoice.send(1, [])  # type: ignore[arg-type]
        assert not tasks.sent
        with pytest.raises(ResultNotSerializable):
            unstorable.send()
    assert len(seen) == 1


@hy.task(headers={"of": "the task"})
def look_around() -> None:
    see()


def test_headers_of_a_send_reach_its_run() -> None:
    with inline():
        look_around.send()
        look_around.with_config(headers={"of": "this send"}).send()
    assert [context.headers for context in seen] == [{"of": "the task"}, {"of": "this send"}]


def test_context_is_complete_inside_and_gone_outside() -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    with inline():
        handle = flaky.with_config(queue="q", priority=8, timeout_seconds=9).send(1)
    first, second = seen
    assert (first.task_id, first.task_name, first.queue, first.priority) == (handle.id, "flaky", "q", 8)
    assert [(c.run_number, c.attempt_number, c.max_retries) for c in seen] == [(0, 0, 2), (1, 1, 2)]
    assert (first.parent_id, first.root_id, first.timeout_seconds) == (None, handle.id, 9.0)
    assert before < first.queued <= second.started
    assert get_hyrex_context() is None


def test_retries_follow_at_once_whatever_their_backoff() -> None:
    with inline():
        handle = flaky.send(2)
    assert handle.result() == "done"
    assert [run.status for run in handle.task_runs] == ["failed", "failed", "completed"]
    assert handle.task_runs[0].error is not None
    assert str(handle.task_runs[0].error) == "ConnectionError: not yet"


def test_failure_is_raised_where_it_was_sent_once_no_retry_is_left() -> None:
    with inline() as tasks:
        with pytest.raises(ConnectionError, match="not yet"):
            flaky.send(7)
        (handle,) = tasks.sent
        assert len(handle.task_runs) == 3
        with pytest.raises(TaskFailed, match="ConnectionError: not yet"):
            handle.result()


def test_failure_may_be_left_to_the_handle() -> None:
    with inline(raise_failures=False):
        handle = flaky.send(7)
        assert not handle.wait()
        with pytest.raises(TaskFailed, match=r"\(3 attempts\)"):
            handle.result()


@pytest.mark.parametrize(
    ("error", "runs"),
    [
        (NonRetryable("no"), 1),
        (KeyError("k"), 1),
        (RetryAfter(60), 3),
        (ValueError("v"), 3),
        (SystemExit(3), 3),
    ],
)
def test_errors_steer_retries(error: BaseException, runs: int) -> None:
    @HyrexRegistry().task(max_retries=2, no_retry_on=KeyError)
    def raises() -> None:
        raise error

    with inline() as tasks:
        with pytest.raises(TaskFailed if isinstance(error, SystemExit) else type(error)):
            raises.send()
        assert len(tasks.sent[0].task_runs) == runs


def test_on_error_hears_of_every_failed_run_with_the_original_error() -> None:
    heard: list[tuple[BaseException, int]] = []
    boom = ValueError("boom")

    def plain(error: Exception) -> None:
        heard.append((error, see().attempt_number))

    async def coroutine(error: Exception) -> None:
        heard.append((error, see().attempt_number))

    def nothing() -> None:
        heard.append((boom, see().attempt_number))

    for handler in (plain, coroutine, nothing):
        heard.clear()

        @HyrexRegistry().task(max_retries=1, on_error=handler)
        def raises() -> None:
            raise boom

        with inline(), pytest.raises(ValueError, match="boom"):
            raises.send()
        assert heard == [(boom, 0), (boom, 1)]


def test_on_error_hears_of_a_result_that_cannot_be_stored() -> None:
    heard: list[BaseException] = []

    @HyrexRegistry().task(on_error=heard.append)
    def unstorable() -> object:
        return object()

    with inline(), pytest.raises(ResultNotSerializable):
        unstorable.send()
    assert [type(error) for error in heard] == [ResultNotSerializable]


@pytest.mark.parametrize("odd", [RuntimeError("handler broke"), SystemExit(3)])
def test_error_of_on_error_is_only_logged(caplog: pytest.LogCaptureFixture, odd: BaseException) -> None:
    def handler() -> None:
        raise odd

    @HyrexRegistry().task(on_error=handler)
    def raises() -> None:
        raise KeyError("original")

    with caplog.at_level(logging.ERROR), inline(), pytest.raises(KeyError, match="original"):
        raises.send()
    assert "on_error raised" in caplog.text


def test_children_know_their_parent_and_root() -> None:
    with inline() as tasks:
        handle = parent.send(3)
        assert handle.result() == [0, 1, 4]
        assert [sent.task_name for sent in tasks.sent] == ["parent", "child", "child", "child"]
        assert wait_all(tasks.sent)
    assert {context.parent_id for context in seen[1:]} == {handle.id}
    assert {context.root_id for context in seen} == {handle.id}


def test_async_tasks_run_from_plain_code_and_from_a_loop() -> None:
    with inline():
        assert sleepy.send(2).result() == 4

        async def main() -> int:
            sent = await sleepy.send_async(3)
            plain = await child.send_async(4)
            return await sent.result_async() + await plain.result_async()

        assert asyncio.run(main()) == 22
    assert len(seen) == 3


def test_plain_task_sent_from_a_loop_runs_where_no_loop_runs() -> None:
    @HyrexRegistry().task
    def blocks() -> str:
        child.send(1)
        return threading.current_thread().name

    async def main() -> str:
        return await (await blocks.send_async()).result_async()

    with inline():
        assert asyncio.run(main()) != threading.main_thread().name


def test_idempotency_key_runs_once() -> None:
    with inline() as tasks:
        first = child.with_config(idempotency_key="k").send(1)
        again = child.with_config(idempotency_key="k").send(2)
        other = parent.with_config(idempotency_key="k").send(0)
        first.resend()
        same = child.with_config(idempotency_key="k").send(1)
    assert (again.id, again.deduplicated, again.result()) == (first.id, True, 1)
    assert (again.status, again.arguments_differ, same.arguments_differ) == ("completed", True, False)
    assert not other.deduplicated
    assert len(tasks.sent) == 2


def test_what_was_sent_is_shown_with_its_arguments_and_options() -> None:
    order = Order(order_id=1, when=datetime(2026, 1, 1, tzinfo=UTC))
    with inline() as tasks:
        invoice.with_config(queue="q", priority=9).send(order, [])
    (call,) = tasks.calls
    assert call.arguments == {"order": order, "lines": []}
    assert (call.name, call.config.queue, call.config.priority, call.run_at) == ("invoice", "q", 9, None)


def test_remote_stub_runs_the_function_of_the_given_registry() -> None:
    billing, shop = HyrexRegistry(), HyrexRegistry()

    @billing.task(name="billing.charge")
    def charge(cents: int) -> int:
        return cents

    @shop.remote(name="billing.charge")
    def stub(cents: int) -> int:
        raise NotImplementedError

    with inline(billing):
        assert stub.send(5).result() == 5
    with inline(), pytest.raises(LookupError, match=r"billing\.charge is a remote stub"):
        stub.send(5)


def test_tasks_are_found_by_id_and_never_left_to_cancel() -> None:
    with inline():
        handle = child.send(2)
        assert get_task(handle.id).task_runs[0].result == 4
        assert not handle.cancel()
        with pytest.raises(TaskNotFound):
            get_task(UUID(int=0))


def test_nested_blocks_end_one_by_one() -> None:
    with inline() as outer:
        with inline() as inner:
            child.send(1)
        child.send(2)
    assert (len(inner.sent), len(outer.sent)) == (1, 1)


def test_fixture_runs_tasks_inline(hyrex_inline: InlineTasks) -> None:
    child.send(3)
    assert hyrex_inline.sent[0].result() == 9


def test_a_replay_is_a_new_task_without_key_and_delay_and_with_other_arguments_on_wish() -> None:
    with inline() as tasks:
        first = flaky.with_config(idempotency_key="once", labels={"team": "a"}).send(0)
        again, edited = first.replay(), replay(first.id, payload={"succeeds_at": 2})
        assert len({first.id, again.id, edited.id}) == 3
        assert (again.result(), edited.result(), len(edited.task_runs)) == ("done", "done", 3)
        assert [call._outgoing.spec.options.idempotency_key for call in tasks.calls] == ["once", None, None]


def test_only_what_ended_badly_can_be_dismissed() -> None:
    with inline(raise_failures=False):
        assert flaky.send(99).dismiss()
        assert not flaky.send(0).dismiss()


def test_a_replay_of_what_json_cannot_hold_is_refused_before_it_is_sent() -> None:
    with inline() as tasks:
        handle = flaky.send(0)
        with pytest.raises(ArgumentInvalid, match="JSON values only"):
            handle.replay({"succeeds_at": {1, 2}})
        with pytest.raises(TaskNotFound):
            replay(UUID(int=7 << 76))
        assert len(tasks.sent) == 1
