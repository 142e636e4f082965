"""Rates in code and on the command line: `100/m`."""

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["StatedRate", "checked_rate", "rate_text"]

HIGHEST_COUNT: Final = 1_000_000
_PERIODS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_FORM: Final = re.compile(r"([0-9]{1,10})/([smhd])")


@dataclass(frozen=True, slots=True)
class StatedRate:
    """`count` runs in each `period_s`; `burst` of them may begin together after a rest (0: as many as it
    gives in 100 ms)."""

    count: int
    period_s: int
    burst: int = 0


def checked_rate(rate: object, burst: object = None, what: str = "rate") -> StatedRate | None:
    """The rate that `100/m` and a burst say, or TypeError / ValueError."""
    if burst is not None and (not isinstance(burst, int) or isinstance(burst, bool)):
        raise TypeError(f"burst must be an int, got {burst!r}")
    if rate is None:
        if burst is not None:
            raise ValueError(f"burst = {burst} belongs to a rate; give {what} too")
        return None
    if not isinstance(rate, str):
        raise TypeError(f"{what} must be a str such as '100/m', got {rate!r}")
    form = _FORM.fullmatch(rate)
    if form is None or not 1 <= int(form[1]) <= HIGHEST_COUNT:
        units = "s, m, h or d"
        raise ValueError(
            f"{what} must be a number from 1 to {HIGHEST_COUNT:,} and /{units}, got {rate[:80]!r}"
        )
    if burst is not None and not 1 <= burst <= HIGHEST_COUNT:
        raise ValueError(f"burst must be 1..{HIGHEST_COUNT:,}, got {burst}")
    return StatedRate(int(form[1]), _PERIODS_S[form[2]], burst or 0)


def rate_text(count: int, period_s: float) -> str:
    """A rate as it is written."""
    unit = next((unit for unit, seconds in _PERIODS_S.items() if seconds == period_s), f"{period_s:g}s")
    return f"{count}/{unit}"
