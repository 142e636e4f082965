"""OpenTelemetry spans of sends, and trace contexts as bytes; nothing where no SDK is configured.

Spans and attributes follow the semantic conventions for messaging. A single send is the parent of its run. Of
tasks that were sent together each run begins a trace of its own, with a link to the send: a flag in their
trace contexts (LINKED), which W3C does not use, tells workers so.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from hyrex.backend.origin import TRACE_BYTES
from hyrex.middleware import Enter, Middleware, SendInfo

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanContext, Tracer

__all__ = ["LINKED", "SYSTEM", "SendSpans", "context_of", "spans_of", "tracer_here"]

log = logging.getLogger("hyrex")

LINKED: Final = 0x80
SYSTEM: Final = "hyrex"
_SAMPLED: Final = 0x01
_told = False
_known: "tuple[Any, Tracer] | None" = None
_spans: "tuple[Tracer, tuple[Enter, ...]] | None" = None


def tracer_here() -> "Tracer | None":
    """A tracer of the SDK that this program has configured; None if there is none.

    Costs 0.1 µs where OpenTelemetry is not imported: a program that configures an SDK has imported it.
    """
    api = sys.modules.get("opentelemetry.trace")
    if api is None or not hasattr(api, "get_tracer_provider"):
        return None
    provider = api.get_tracer_provider()
    if isinstance(provider, api.ProxyTracerProvider | api.NoOpTracerProvider):
        return None
    global _known
    if _known is None or _known[0] is not provider:
        _known = provider, provider.get_tracer("hyrex")
    return _known[1]


class SendSpans(Middleware):
    """Around each send its span: the run of a single task belongs to it, runs of many link to it."""

    def __init__(self, tracer: "Tracer") -> None:
        from opentelemetry import trace

        self._tracer, self._trace = tracer, trace

    @contextmanager
    def around_send(self, send: SendInfo, /) -> Iterator[None]:
        """Within the block the tasks are sent."""
        try:
            span = self._start(send)
        except Exception as error:
            _tell(error)
            yield
            return
        trace_context = _bytes_of(span.get_span_context())
        send._trace_context = _linked(trace_context) if send.many else trace_context
        failure: Exception | None = None
        try:
            with self._trace.use_span(span, record_exception=False, set_status_on_exception=False):
                yield
        except Exception as error:
            failure = error
            raise
        finally:
            _end(span, failure)

    def _start(self, send: SendInfo) -> "Span":
        attributes: dict[str, Any] = {"messaging.system": SYSTEM, "messaging.operation.name": "send"}
        if send.many:
            attributes["messaging.batch.message_count"] = send.count
        else:
            attributes["messaging.message.id"] = send.task_ids[0]
            attributes["hyrex.task"] = send.task_names[0]
        attributes["messaging.operation.type"] = "send"
        name = "send"
        if len(send.queues) == 1:
            attributes["messaging.destination.name"] = send.queues[0]
            name = f"send {send.queues[0]}"
        return self._tracer.start_span(name, kind=self._trace.SpanKind.PRODUCER, attributes=attributes)


def spans_of(tracer: "Tracer") -> tuple[Enter, ...]:
    """What is around sends where this tracer is configured; the same for the same tracer."""
    global _spans
    if _spans is None or _spans[0] is not tracer:
        _spans = tracer, (SendSpans(tracer).around_send,)
    return _spans[1]


def _linked(trace_context: bytes) -> bytes:
    return trace_context[:-1] + bytes([trace_context[-1] | LINKED])


def _end(span: "Span", failure: Exception | None) -> None:
    """End the span of a send, which is over: what the tracer raises must not look as if it had failed."""
    from opentelemetry.trace import StatusCode

    try:
        if failure is not None:
            span.set_status(StatusCode.ERROR, f"{type(failure).__name__}: {failure}")
            span.record_exception(failure)
        span.end()
    except Exception as error:
        _tell(error)


def _tell(error: Exception) -> None:
    """Log an error of the tracer, whose processors are code of the user: the first in this process."""
    global _told
    if not _told:
        _told = True
        text = "the tracer of OpenTelemetry raised, so spans are missing or incomplete; told once"
        log.warning(text, exc_info=error)


def _bytes_of(context: "SpanContext") -> bytes:
    return b"".join(
        [
            b"\0",
            context.trace_id.to_bytes(16, "big"),
            context.span_id.to_bytes(8, "big"),
            bytes([int(context.trace_flags) & _SAMPLED]),
        ]
    )


def context_of(trace_context: bytes) -> "SpanContext | None":
    """The span that a task was sent in; None if it has none."""
    from opentelemetry.trace import SpanContext, TraceFlags

    if len(trace_context) != TRACE_BYTES:
        return None
    found = SpanContext(
        int.from_bytes(trace_context[1:17], "big"),
        int.from_bytes(trace_context[17:25], "big"),
        is_remote=True,
        trace_flags=TraceFlags(trace_context[25] & _SAMPLED),
    )
    return found if found.is_valid else None
