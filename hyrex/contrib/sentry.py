"""Errors and timings of runs in Sentry: `app.middleware(SentryMiddleware())`. Needs sentry-sdk 2.

A run continues the trace that its task was sent in. Configure the SDK (`sentry_sdk.init`) where the app is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from hyrex.context import HyrexContext
from hyrex.contrib.needs import needing
from hyrex.errors import NonRetryable, ResultNotSerializable, RetryAfter, TaskTimeout
from hyrex.middleware import Middleware, RunInfo, SendInfo

with needing("sentry-sdk>=2"):
    import sentry_sdk

__all__ = ["SentryMiddleware"]

ORIGIN: Final = "auto.queue.hyrex"
OK: Final = "ok"
INTERNAL_ERROR: Final = "internal_error"
FINAL: Final = (NonRetryable, ResultNotSerializable)
"""Errors that no retry follows, whatever is left."""


class SentryMiddleware(Middleware):
    """Each run is a transaction, and has a scope of its own with what its context says.

    `last_attempt_only`: report an error only where no retry is left: at the last attempt, and at any attempt
    NonRetryable and a result that cannot be stored. What else ends a task early (`no_retry_on`, arguments
    that cannot be read) is not known here. RetryAfter is never reported, nor is a cancel; a timeout is.
    """

    def __init__(self, *, last_attempt_only: bool = False) -> None:
        self._last_attempt_only = last_attempt_only

    @contextmanager
    def around_run(self, run: RunInfo, /) -> Iterator[None]:
        """Within the block the run is executed."""
        context = run.context
        with sentry_sdk.isolation_scope() as scope:
            scope.clear_breadcrumbs()
            scope.set_tag("hyrex.task", context.task_name)
            scope.set_tag("hyrex.queue", context.queue)
            scope.set_context("hyrex", _told(context))
            transaction = sentry_sdk.continue_trace(
                dict(context.headers),
                op="queue.process",
                name=context.task_name,
                source="task",
                origin=ORIGIN,
            )
            with sentry_sdk.start_transaction(transaction):
                transaction.set_status(OK)
                try:
                    yield
                except (Exception, TaskTimeout) as error:
                    transaction.set_status(INTERNAL_ERROR)
                    if self._reports(context, error):
                        sentry_sdk.capture_exception(error)
                    raise

    @contextmanager
    def around_send(self, send: SendInfo, /) -> Iterator[None]:
        """Within the block the tasks are sent; they carry the trace in headers."""
        name = send.task_names[0] if len(send.task_names) == 1 else f"{send.count} tasks"
        with sentry_sdk.start_span(op="queue.publish", name=name, origin=ORIGIN):
            for header, value in sentry_sdk.get_current_scope().iter_trace_propagation_headers():
                send.add_header(header, value)
            yield

    def _reports(self, context: HyrexContext, error: BaseException) -> bool:
        if isinstance(error, RetryAfter):
            return False
        if not self._last_attempt_only or context.attempt_number >= context.max_retries:
            return True
        return any(issubclass(type(part), FINAL) for part in _parts(error))


def _parts(error: BaseException) -> Iterator[BaseException]:
    """The error, and all that it holds if it is a group."""
    yield error
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _parts(part)


def _told(context: HyrexContext) -> dict[str, object]:
    return {
        "task_id": str(context.task_id),
        "run_number": context.run_number,
        "attempt_number": context.attempt_number,
        "max_retries": context.max_retries,
        "worker": context.worker,
    }
