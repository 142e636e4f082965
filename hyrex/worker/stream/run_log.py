"""One line in the worker's log for each run that failed, timed out or was lost.

Written by the stream process, which knows all of them and whose log user code cannot touch.
"""

import logging
from typing import Final

from hyrex.runtime.json_logs import RUN
from hyrex.worker.shared.outcome import Ending, ErrorInfo, Failed, Lost, TimedOut
from hyrex.worker.shared.runs import Run

log = logging.getLogger("hyrex.run")

_SHOWN_CHARACTERS: Final = 300
# The messages of these errors quote arguments or the result, which are never logged.
_QUOTING: Final = ("ArgumentInvalid", "ResultNotSerializable")


def log_ending(run: Run, ending: Ending) -> None:
    """Log a run that failed, timed out or was lost; its traceback at level DEBUG."""
    match ending.outcome:
        case Failed(error, retryable):
            _log(run, f"failed: {_named(error)}", error, retried=retryable and _attempts_left(run))
        case TimedOut(error):
            _log(
                run, f"timed out: {_one_line(error.message)}{_at(error)}", error, retried=_attempts_left(run)
            )
        case Lost(reason):
            _log(run, f"was lost: {_one_line(reason)}", None, retried=True)
        case _:
            pass


def _log(run: Run, what: str, error: ErrorInfo | None, *, retried: bool) -> None:
    level = logging.WARNING if retried else logging.ERROR
    numbers = f"attempt {run.attempt_number + 1} of {run.max_retries + 1}"
    fields = {RUN: fields_of(run)}
    log.log(level, "task %s %s, %s, %s", run.name, run.task_id, numbers, what, extra=fields)
    if error is not None and error.traceback and log.isEnabledFor(logging.DEBUG):
        log.debug("task %s %s\n%s", run.name, run.task_id, error.traceback.rstrip(), extra=fields)


def fields_of(run: Run) -> dict[str, str | int]:
    """What a line as JSON has of the run, beside its text."""
    fields: dict[str, str | int] = {
        "task": run.name, "task_id": run.task_id, "queue": run.queue, "attempt": run.attempt_number,
    }  # fmt: skip
    if run.trace_context:
        fields["trace_id"] = run.trace_context[1:17].hex()
    return fields


def _attempts_left(run: Run) -> bool:
    return run.attempt_number < run.max_retries


def _named(error: ErrorInfo) -> str:
    if error.type in _QUOTING:
        return f"{error.type}{_at(error)} (`hyrex task get` shows its text, which quotes the values)"
    return f"{_one_line(error.type)}: {_one_line(error.message)}{_at(error)}"


def _at(error: ErrorInfo) -> str:
    return f" (at {_one_line(error.where)})" if error.where else ""


def _one_line(text: str) -> str:
    """The text on one line: unprintable characters are escaped, and a long text is cut."""
    shown = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
