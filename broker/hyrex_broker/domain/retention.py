"""How long tasks are kept that have ended."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class RetentionTerms:
    """How long tasks are kept after their day: all of them, and those that did not end well."""

    finished: timedelta
    bad_ends: timedelta
