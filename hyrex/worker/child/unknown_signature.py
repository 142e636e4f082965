"""Runs whose arguments another version of the same task would take: given back for a worker that has it.

In a rolling deploy senders and workers have different code for a while. A sender decodes what it sends by
its own code (see hyrex.arguments.payload), so arguments with a part too many or too few were made by another
version.
"""

from typing import Final

from pydantic import ValidationError

from hyrex.arguments.refusals import described
from hyrex.worker.shared.child_messages import Run
from hyrex.worker.shared.outcome import Released

__all__ = ["given_back"]

# pydantic's names for: a part too many, a part too few, a choice that this code does not have.
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
    """The outcome of a run whose arguments did not fit; None if no other worker could take them."""
    cause = error.__cause__
    if not isinstance(cause, ValidationError):
        return None
    times = run.run_number - run.attempt_number  # a run that is given back is numbered, and no attempt
    if times >= MOST_TIMES or OF_ANOTHER_VERSION.isdisjoint(one["type"] for one in cause.errors()):
        return None
    reason = (
        f"no worker has taken its arguments yet: {run.name} is another version there "
        f"({described(cause, with_values=False)}); deploy workers before senders"
    )
    return Released(False, reason, min(FIRST_DELAY_S * 2**times, LONGEST_DELAY_S))
