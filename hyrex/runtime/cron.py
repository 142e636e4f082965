"""Cron expressions and time zones: checked with words that name the remedy, and their slots.

A slot is a time at which a schedule is due, in UTC. Whoever gives an expression may be anybody: what it takes
to read one and to find its next slot is bounded, in time and in memory.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice, pairwise, takewhile
from typing import Any, Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

__all__ = ["Cron", "ScheduleInvalid", "checked_cron", "checked_zone"]

LONGEST: Final = 100
"""Characters of an expression, and of the name of a zone."""
ALIASES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS: Final = ("minute", "hour", "day of month", "month", "day of week")
_TERM: Final = re.compile(r"[*0-9A-Za-z#/-]{1,20}(,[*0-9A-Za-z#/-]{1,20})*")
_LONG_NUMBER: Final = re.compile(r"\d{4}")
_SOME_DAY: Final = datetime(2024, 1, 1, tzinfo=UTC)
_MOST_DAYS: Final = 600
"""So many days are looked at for the next slot; months that an expression leaves out are not. That finds each
29 February, and takes less than a millisecond where there is no such day."""

_COMPARED_SLOTS: Final = 100
_COMPARED_DAYS: Final = timedelta(days=400)


class ScheduleInvalid(ValueError):
    """An expression or a zone is none, or is never due, or a jitter reaches the next slot; names the field
    (cron, tz or jitter), the value and the remedy."""

    def __init__(self, field: str, value: str, remedy: str) -> None:
        self.field, self.value, self.remedy = field, value[:LONGEST], remedy
        shown = self.value if field == "jitter" else repr(self.value)
        super().__init__(f"{field} = {shown}: {remedy}")


class ZoneUnknown(ScheduleInvalid):
    """This machine's data has no zone of that name."""


class _Bounded(CronSim):
    """A CronSim that gives up after some hundred days."""

    _looked_at = 0

    def match_day(self, d: Any) -> bool:
        self._looked_at += 1
        if self._looked_at > _MOST_DAYS:
            raise CronSimError("Bad day-of-month")
        return super().match_day(d)

    def __next__(self) -> datetime:
        self._looked_at = 0
        return super().__next__()


class Cron:
    """A checked expression in a zone.

    Slots at a time that a zone leaves out in spring come right after the gap; those of an hour that comes
    twice in autumn come once, unless the expression is for every hour or every few minutes.
    """

    __slots__ = ("_expression", "_zone")

    def __init__(self, expression: str, zone: str) -> None:
        """Raises ScheduleInvalid."""
        self._zone = checked_zone(zone)
        self._expression = checked_cron(expression)

    def next_after(self, moment: datetime) -> datetime:
        """The first slot after a moment. Raises ScheduleInvalid where there is none."""
        found = next(self._slots(moment, reverse=False), None)
        if found is None:
            raise _never(self._expression)
        return found

    def next_slots(self, moment: datetime, count: int) -> list[datetime]:
        """The first slots after a moment; fewer where there are no more."""
        return list(islice(self._slots(moment, reverse=False), count))

    def between(self, first: datetime, until: datetime, most: int) -> list[datetime]:
        """Up to `most` slots from a moment on and before another, the oldest first."""
        slots = self._slots(first - timedelta(microseconds=1), reverse=False)
        return list(islice(takewhile(lambda slot: slot < until, slots), most))

    def latest(self, after: datetime, until: datetime, most: int) -> list[datetime]:
        """The latest slots, up to `most`, after a moment and not after another, the oldest first."""
        slots = self._slots(until, reverse=True)
        return list(islice(takewhile(lambda slot: slot > after, slots), most))[::-1]

    def require_shorter(self, jitter_s: float) -> None:
        """Raise ScheduleInvalid for a jitter that reaches the next slot: the slot before would be over when
        it is looked at, and be left out.

        The first slots of one year are compared, and those around the days on which its clocks are changed,
        so that a jitter is always refused or never.
        """
        until = _SOME_DAY + _COMPARED_DAYS
        found = [self.between(first, until, _COMPARED_SLOTS) for first in self._compared_from()]
        apart = [later - slot for slots in found for slot, later in pairwise(slots)]
        shortest = min(apart, default=_COMPARED_DAYS)
        if jitter_s >= shortest.total_seconds():
            raise ScheduleInvalid(
                "jitter",
                f"{jitter_s:g}",
                f"reaches the next slot, which may come {shortest.total_seconds():.0f} seconds after one; "
                "give less, in seconds",
            )

    def _compared_from(self) -> Iterator[datetime]:
        yield _SOME_DAY
        days = [_SOME_DAY + timedelta(days=day) for day in range(_COMPARED_DAYS.days)]
        offsets = [day.astimezone(self._zone).utcoffset() for day in days]
        for day, (before, after) in zip(days, pairwise(offsets), strict=False):
            if before != after:
                yield day - timedelta(hours=3)

    def _slots(self, moment: datetime, *, reverse: bool) -> Iterator[datetime]:
        """Slots after a moment, or backwards those not after it."""
        from_here = moment.astimezone(self._zone)
        if reverse:
            from_here += timedelta(seconds=1)
        try:
            for local in _Bounded(self._expression, from_here, reverse):
                slot = local.astimezone(UTC)
                # Of an hour that comes twice the first is meant: seen from the second, it is over.
                if (slot <= moment) is reverse:
                    yield slot
        except (CronSimError, OverflowError):
            return


def checked_cron(text: str) -> str:
    """The expression, with an alias written out. Raises ScheduleInvalid."""
    if len(text) > LONGEST:
        raise ScheduleInvalid("cron", text, f"may have at most {LONGEST} characters")
    expression = ALIASES.get(text.strip().lower(), text)
    parts = expression.split()
    if len(parts) != len(_FIELDS):
        names = f"{', '.join(_FIELDS)}), as in '0 9 * * *', or one of {', '.join(ALIASES)}"
        raise ScheduleInvalid("cron", text, f"needs five fields ({names}")
    for place, part in enumerate(parts):
        if not _is_part(place, part):
            remedy = (
                f"{_FIELDS[place]} {part!r} is not understood or out of bounds;"
                " give *, numbers, ranges (1-5), steps (*/15), or lists of them (1,15)"
            )
            raise ScheduleInvalid("cron", text, remedy)
    try:
        next(_Bounded(expression, _SOME_DAY))
    except (CronSimError, StopIteration, OverflowError):
        raise _never(text) from None
    return expression


def checked_zone(name: str) -> tzinfo:
    """The zone of this name. Raises ScheduleInvalid."""
    if name in ("", "UTC"):
        return UTC
    try:
        if len(name) > LONGEST:
            raise ValueError(name)
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):  # not found; a path; a folder; a file that is no zone
        remedy = "is no time zone here; give a name of the IANA data base ('Europe/Berlin'), or 'UTC'"
        raise ZoneUnknown("tz", name, remedy) from None


def _is_part(place: int, part: str) -> bool:
    if not _TERM.fullmatch(part) or _LONG_NUMBER.search(part):
        return False
    alone = ["*"] * len(_FIELDS)
    alone[place] = part
    try:
        CronSim(" ".join(alone), _SOME_DAY)
    except (CronSimError, ValueError, AssertionError, TypeError):  # the last three: defects of its parser
        return False
    return True


def _never(expression: str) -> ScheduleInvalid:
    remedy = "would never be due: there is no such day (30 February, for instance)"
    return ScheduleInvalid("cron", expression, remedy)
