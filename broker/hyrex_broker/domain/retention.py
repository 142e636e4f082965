"""How long tasks are kept that have ended."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class RetentionTerms:
    """How long the brokers keep tasks after their day: `finished` those that ended as completed or cancelled,
    `bad_ends` those that failed, timed out or were lost."""

    finished: timedelta
    bad_ends: timedelta
