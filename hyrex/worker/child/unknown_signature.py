"""Gives back runs whose arguments fit another version of the task, for a worker that has that version.

In a rolling deploy senders and workers have different code for a while. A sender checks arguments by its own
code (see hyrex.arguments.payload), so arguments that have a field too many or too few were made for another
version.
"""

from typing import Final

from pydantic import ValidationError

from hyrex.arguments.refusals import described
from hyrex.worker.shared.outcome import Released
from hyrex.worker.shared.runs import Run

# pydantic's names for: a field too many, a field too few, a choice that this code does not have.
OF_ANOTHER_VERSION: Final = frozenset(
    {
        "enum",
        "extra_forbidden",
        "literal_error",
        "missing",
        "unexpected_keyword_argument",
        "union_tag_invalid",
    }
)
# 0.25 s, doubled to a minute: nine minutes in all, then the run fails.
MOST_TIMES: Final = 16
FIRST_DELAY_S: Final = 0.25
LONGEST_DELAY_S: Final = 60.0


def given_back(run: Run, error: BaseException) -> Released | None:
    """The outcome of a run whose arguments did not fit; None if no other version would take them either."""
    cause = error.__cause__
    if not isinstance(cause, ValidationError):
        return None
    if OF_ANOTHER_VERSION.isdisjoint(one["type"] for one in cause.errors()):
        return None
    reason = (
        f"no worker has accepted its arguments yet, and they do not fit {run.name} here: "
        f"{described(cause, with_values=False)}. If a name is mistyped, cancel it and send it anew; if this "
        "worker has another version of it, deploy workers before senders"
    )
    return postponed(run, reason)


def postponed(run: Run, reason: str) -> Released | None:
    """The outcome of a run for another worker, or for this one later; None if it was so too often."""
    times = run.run_number - run.attempt_number  # a run that is given back has a number, but is no attempt
    if times >= MOST_TIMES:
        return None
    return Released(False, reason, min(FIRST_DELAY_S * 2**times, LONGEST_DELAY_S))
