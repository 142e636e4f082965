"""The OpenTelemetry span of a run, where the app has configured an SDK."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hyrex.backend.tracing import LINKED, SYSTEM, context_of
from hyrex.context import HyrexContext
from hyrex.worker.child.execution import Execution
from hyrex.worker.shared.description import attempt, describe
from hyrex.worker.shared.logs import warn

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

_told = False


@contextmanager
def run_span(tracer: "Tracer", execution: Execution) -> Iterator[None]:
    """Within the block, which executes the run, its span is the current one. It ends with what was raised.

    Processors of spans are user code: what they raise changes nothing for the run, which is executed without
    a span if none can start.
    """
    from opentelemetry import trace

    span = attempt(lambda: _start(tracer, execution), _tell)
    if span is None:
        yield
        return
    try:
        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            yield
    finally:
        if (error := execution.error) is not None:
            attempt(lambda: span.record_exception(error), _tell)
            attempt(lambda: _note_failure(span, error), _tell)
        attempt(span.end, _tell)


def _start(tracer: "Tracer", execution: Execution) -> "Span":
    from opentelemetry import trace
    from opentelemetry.context import Context

    run = execution()
    sender = context_of(run.trace_context)
    linked = sender is not None and run.trace_context[-1] & LINKED
    parent = Context() if linked or sender is None else _within(sender)
    return tracer.start_span(
        f"process {run.queue}",
        parent,
        trace.SpanKind.CONSUMER,
        _attributes(run),
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


def _within(sender: Any) -> Any:
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, set_span_in_context

    return set_span_in_context(NonRecordingSpan(sender), Context())


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
