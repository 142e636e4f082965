"""Ready-made middleware works with the real library that it is for."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import sentry_sdk
import structlog
from sentry_sdk.transport import Transport

from hyrex import NonRetryable, RetryAfter
from hyrex.contrib.sentry import SentryMiddleware
from hyrex.contrib.structlog import StructlogMiddleware
from hyrex.testing import inline
from tests.unit.sdk.middlewares import alone


class Kept(Transport):
    """Keeps what the SDK would send."""

    def __init__(self, options: dict[str, Any] | None = None) -> None:
        super().__init__(options)
        self.events: list[dict[str, Any]] = []

    def capture_envelope(self, envelope: Any) -> None:
        self.events += [item.payload.json for item in envelope.items if item.payload.json]

    def of(self, kind: str | None) -> list[dict[str, Any]]:
        """The events of a type; None: errors."""
        return [event for event in self.events if event.get("type") == kind and "event_id" in event]


@pytest.fixture
def sentry() -> Iterator[Kept]:
    kept = Kept()
    with sentry_sdk.isolation_scope() as scope:
        options: dict[str, Any] = {"default_integrations": False, "auto_enabling_integrations": False}
        options["release"] = "1"  # else it asks git
        client = sentry_sdk.Client(
            dsn="https://key@example.invalid/1", transport=kept, traces_sample_rate=1.0, **options
        )
        scope.set_client(client)
        yield kept
        client.close(timeout=0)


def test_sentry_gets_a_run_as_a_transaction_of_its_senders_trace_and_each_error_once(sentry: Kept) -> None:
    hy = alone(SentryMiddleware())

    @hy.task(max_retries=1, retry_backoff=0)
    def charge(order: int) -> None:
        sentry_sdk.set_tag("order", order)
        raise LookupError("no such order")

    @hy.task(max_retries=1)
    async def again() -> None:
        raise RetryAfter(0)

    with inline(raise_failures=False) as tasks:
        with sentry_sdk.start_transaction(name="checkout") as visit:
            charge.send(7)
        again.send()
    first, second = sentry.of(None)
    assert first["exception"]["values"][-1]["value"] == "no such order"
    assert first["tags"] == {"hyrex.task": "charge", "hyrex.queue": "default", "order": 7}
    told = first["contexts"]["hyrex"]
    assert (told["task_id"], told["attempt_number"]) == (str(tasks.sent[0].id), 0)
    assert second["contexts"]["hyrex"]["attempt_number"] == 1
    runs = [each for each in sentry.of("transaction") if each["transaction"] == "charge"]
    assert [run["contexts"]["trace"]["status"] for run in runs] == ["internal_error"] * 2
    assert {run["contexts"]["trace"]["trace_id"] for run in runs} == {visit.trace_id}
    (ended,) = [each for each in sentry.of("transaction") if each["transaction"] == "checkout"]
    (published,) = ended["spans"]
    assert published["op"] == "queue.publish"
    assert {run["contexts"]["trace"]["parent_span_id"] for run in runs} == {published["span_id"]}


def test_sentry_hears_of_the_last_attempt_only_where_that_is_asked_for(sentry: Kept) -> None:
    hy = alone(SentryMiddleware(last_attempt_only=True))

    @hy.task(max_retries=2, retry_backoff=0)
    def charge() -> None:
        raise LookupError

    with inline(raise_failures=False):
        charge.send()
    (event,) = sentry.of(None)
    assert event["contexts"]["hyrex"]["attempt_number"] == 2


def test_sentry_hears_of_a_first_attempt_that_is_the_last(sentry: Kept) -> None:
    hy = alone(SentryMiddleware(last_attempt_only=True))

    @hy.task(max_retries=2)
    def refuse() -> None:
        raise NonRetryable("no such order")

    @hy.task(max_retries=2)
    def refuse_in_a_group() -> None:
        raise ExceptionGroup("both", [LookupError(), ExceptionGroup("one", [NonRetryable("no")])])

    @hy.task(max_retries=2)
    def unstorable() -> object:
        return object()

    with inline(raise_failures=False) as tasks:
        for task in (refuse, refuse_in_a_group, unstorable):
            task.send()
    assert [len(handle.task_runs) for handle in tasks.sent] == [1, 1, 1]
    told = [event["contexts"]["hyrex"]["task_id"] for event in sentry.of(None)]
    assert told == [str(handle.id) for handle in tasks.sent]


def test_structlog_lines_have_the_run_and_what_the_sender_had_bound_also_two_sends_on() -> None:
    hy = alone(StructlogMiddleware("request_id"))
    entries: list[dict[str, Any]] = []

    def note(_: Any, __: str, event: Any) -> Any:
        entries.append(dict(event))
        raise structlog.DropEvent

    log = structlog.wrap_logger(None, processors=[structlog.contextvars.merge_contextvars, note])

    def complain() -> None:
        log.error("in the handler")

    @hy.task(on_error=complain)
    def second() -> None:
        log.info("in second")
        raise LookupError

    @hy.task
    async def first() -> None:
        log.info("in first")
        await second.send_async()

    with inline(raise_failures=False):
        with structlog.contextvars.bound_contextvars(request_id=71, secret="no"):
            handle = first.send()
        assert structlog.contextvars.get_contextvars() == {}
    shown = [(entry["event"], entry["task"], entry["request_id"], entry["queue"]) for entry in entries]
    assert shown == [
        ("in first", "first", "71", "default"),
        ("in second", "second", "71", "default"),
        ("in the handler", "second", "71", "default"),
    ]
    assert entries[0]["task_id"] == str(handle.id)


@pytest.mark.parametrize("name", ["", 3])
def test_a_name_that_no_variable_has_is_refused(name: Any) -> None:
    with pytest.raises(TypeError, match="wants names of context variables"):
        StructlogMiddleware("request_id", name)


def test_ready_made_sends_do_not_fail_where_the_library_is_not_configured(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hy = alone(SentryMiddleware())

    @hy.task
    def work() -> int:
        return 1

    with caplog.at_level(logging.WARNING), inline():
        assert work.send().result() == 1
    assert caplog.text == ""
