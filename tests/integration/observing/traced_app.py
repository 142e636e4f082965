"""An app that writes the spans of each of its processes to a file, and a program that sends its tasks.

`python -m tests.integration.observing.traced_app` sends, waits for all ends, and prints the tasks' ids.
"""

import json
import logging
import os
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from hyrex import HyrexApp, HyrexRegistry, send_many

hy = HyrexRegistry(queue="shop")
app = HyrexApp("traced")
app.add_registry(hy)
log = logging.getLogger("shop")
PATIENCE_S = 60.0


def _line(span: ReadableSpan) -> str:
    return json.dumps(json.loads(span.to_json())) + "\n"


def _configure(path: str) -> None:
    provider = TracerProvider()
    file = open(path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115  # as long as the process
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=file, formatter=_line)))
    trace.set_tracer_provider(provider)


if path := os.environ.get("SPANS"):
    _configure(path)


@hy.task
def order() -> None:
    """Sends another task, within a span of its own."""
    log.warning("ordering")
    with trace.get_tracer("shop").start_as_current_span("choose"):
        pack.send("book").wait(PATIENCE_S)


@hy.task
async def pack(what: str) -> str:
    """Returns."""
    return what


@hy.task(max_retries=1, retry_backoff=0)
def break_down() -> None:
    """Fails twice."""
    raise ValueError("broken")


def main() -> None:
    """Send all kinds."""
    with trace.get_tracer("shop").start_as_current_span("visit"):
        sent: list[Any] = [order.send(), break_down.send(), *send_many(pack.call(str(n)) for n in range(2))]
    for handle in sent:
        handle.wait(PATIENCE_S)
    print("sent", *[handle.id for handle in sent], flush=True)


if __name__ == "__main__":
    main()
