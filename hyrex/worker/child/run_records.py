"""What a task logs names its run: each record made while a run executes carries the run's fields.

The record's factory does it, so that it holds for every handler and formatter of the user's, too. One
attribute has all fields: logging refuses an `extra` whose name a record already has.
"""

import logging
import sys
from typing import Any

from hyrex.context import HyrexContext, get_hyrex_context
from hyrex.runtime.json_logs import RUN


def mark_records_with_run() -> None:
    """Have each log record carry the fields of the run in which it was made."""
    make = logging.getLogRecordFactory()

    def marked(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        context = get_hyrex_context()
        if context is not None:
            setattr(record, RUN, fields_of(context))
        return record

    logging.setLogRecordFactory(marked)


def fields_of(context: HyrexContext) -> dict[str, str | int]:
    """The fields of a run."""
    fields: dict[str, str | int] = {
        "task": context.task_name,
        "task_id": str(context.task_id),
        "queue": context.queue,
        "attempt": context.attempt_number,
    }
    if trace_id := _trace_id(context):
        fields["trace_id"] = trace_id
    return fields


def _trace_id(context: HyrexContext) -> str:
    """Of the current span, else of the trace that the task belongs to; empty if there is none."""
    current = getattr(
        sys.modules.get("opentelemetry.trace"), "get_current_span", None
    )  # it may be half imported
    if current is not None and (span := current().get_span_context()).is_valid:
        return format(span.trace_id, "032x")
    return context.trace_context[1:17].hex()
