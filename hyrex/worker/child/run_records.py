"""What a task logs names its run: each record made while a run executes carries the run's fields.

The record's factory does it, so that it holds for every handler and formatter of the user's, too. One
attribute has all fields: logging refuses an `extra` whose name a record already has.
"""

import logging
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
    return fields
