"""Errors and timings of runs in Sentry: `app.middleware(SentryMiddleware())`. Needs sentry-sdk 2.

A run continues the trace that its task was sent in. Configure the SDK (`sentry_sdk.init`) where the app is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import sentry_sdk

from hyrex.context import HyrexContext
from hyrex.errors import RetryAfter, TaskTimeout
from hyrex.middleware import Middleware, RunInfo, SendInfo

__all__ = ["SentryMiddleware"]

ORIGIN: Final = "auto.queue.hyrex"
OK: Final = "ok"
INTERNAL_ERROR: Final = "internal_error"


class SentryMiddleware(Middleware):
    """Each run is a transaction, and has a scope of its own with what its context says.

    `last_attempt_only`: report an error only where no retry is left. RetryAfter is never reported, nor is a
    cancel; a timeout is.
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
        return not self._last_attempt_only or context.attempt_number >= context.max_retries


def _told(context: HyrexContext) -> dict[str, object]:
    return {
        "task_id": str(context.task_id),
        "run_number": context.run_number,
        "attempt_number": context.attempt_number,
        "max_retries": context.max_retries,
        "worker": context.worker,
    }
