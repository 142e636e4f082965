"""The OpenTelemetry span of a run, where the app has configured an SDK."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from hyrex.backend.tracing import LINKED, SYSTEM, context_of
from hyrex.context import HyrexContext
from hyrex.middleware import Middleware, RunInfo
from hyrex.worker.shared.description import attempt, describe
from hyrex.worker.shared.logs import warn

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

_told = False


class RunSpans(Middleware):
    """Around each run its span, which is the current one, and is ended with what was raised.

    Processors of spans are user code: what they raise changes nothing for the run, which is executed without
    a span if none can start.
    """

    def __init__(self, tracer: "Tracer") -> None:
        from opentelemetry import context, trace

        self._tracer = tracer
        self._trace, self._context = trace, context

    @contextmanager
    def around_run(self, run: RunInfo, /) -> Iterator[None]:
        """Within the block the run is executed."""
        run._span = span = attempt(partial(self._start, run), _tell)
        if span is None:
            yield
            return
        try:
            with self._trace.use_span(span, record_exception=False, set_status_on_exception=False):
                yield
        except BaseException as error:
            raised = error
            attempt(lambda: span.record_exception(raised), _tell)
            attempt(lambda: _note_failure(span, raised), _tell)
            raise
        finally:
            attempt(span.end, _tell)

    def around_on_error(self, run: RunInfo, /) -> AbstractContextManager[object]:
        """What the error handler does belongs to the run's span, which has ended."""
        if run._span is None:
            return nullcontext()
        return self._trace.use_span(run._span, record_exception=False, set_status_on_exception=False)

    def _start(self, run: RunInfo) -> "Span":
        told, trace = run.context, self._trace
        sender = context_of(told.trace_context)
        linked = sender is not None and told.trace_context[-1] & LINKED
        parent = self._context.Context()
        if sender is not None and not linked:
            parent = trace.set_span_in_context(trace.NonRecordingSpan(sender), parent)
        return self._tracer.start_span(
            f"process {told.queue}",
            parent,
            trace.SpanKind.CONSUMER,
            _attributes(told),
            [trace.Link(sender)] if linked and sender is not None else None,
        )


def _note_failure(span: "Span", error: BaseException) -> None:
    from opentelemetry.trace import StatusCode

    told = describe(error)
    span.set_attribute("error.type", told.type)
    span.set_status(StatusCode.ERROR, f"{told.type}: {told.message}")


def _tell(error: BaseException) -> None:
    """Log an error of the tracer, which may be broken for each run: the first in this process."""
    global _told
    if not _told:
        _told = True
        warn("the tracer of OpenTelemetry raised, so spans are missing or incomplete; told once", error)


def _attributes(run: HyrexContext) -> dict[str, str | int | float]:
    waited = run.started - run.queued
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": run.queue,
        "messaging.message.id": str(run.task_id),
        "hyrex.task": run.task_name,
        "hyrex.attempt": run.attempt_number,
        "hyrex.run_number": run.run_number,
        "hyrex.worker": run.worker,
        "hyrex.queue_wait_ms": max(0.0, waited.total_seconds() * 1000),
    }
