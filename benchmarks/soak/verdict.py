"""What a soak's record says: each slope, ratio and count beside its bound."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from benchmarks.latency import percentile
from benchmarks.soak.record import Record
from benchmarks.soak.slopes import growth_ratio, slope

Judgement = Literal["met", "MISSED", "too short", "no bound"]

JUDGED_FROM_S: Final = 600.0
"""A slope over less is not judged: a megabyte in ten seconds would be 360 an hour."""
JUDGED_TENTH_S: Final = 60.0
BOUNDS_PER_HOUR: Final = (
    (r".* rss", "MB", 8.0),
    (r".* fds", "", 2.0),
    (r".* threads", "", 2.0),
    (r"postgres private", "MB", 20.0),
    (r"postgres processes", "", 3.0),
    (r"dead rows live tables", "", 10_000.0),
    (r"dead rows other tables", "", 10_000.0),
    (r"live tables", "MB", 8.0),
    (r"ready|delayed|running", "", 500.0),
)
"""Series by their names: unit, and how much they may grow in an hour. What is kept grows as it is sent."""
UNCOLLECTED_MB: Final = 8.0
"""A broker collects cyclic garbage once 50,000 objects were made. gRPC leaves five for each call, so its
memory grows by 7 MB over the first 9,300 waits and is flat from then on (docs/performance.md). A life that
has grown by no more may be either."""
LATENCIES: Final = (("send", 50, 1.5), ("send", 99, 2.0), ("start", 50, 1.5), ("start", 99, 2.0),
                    ("result", 50, 1.5), ("result", 99, 2.0))  # fmt: skip
"""Kind, percentile, and how much the last tenth may be over the first."""
GROWTH: Final = (("wal", "write-ahead log of a task", 1.3), ("kept tables", "kept bytes of a task", 1.3))
NONE_OF: Final = ("lost", "recorded twice", "acknowledged and not stored")


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure. `first` and `last`: of the tenths that a ratio compares; `level`: where a slope is at."""

    name: str
    value: float
    unit: str
    bound: float | None
    judgement: Judgement
    first: float | None = None
    last: float | None = None
    level: float | None = None


def findings(record: Record) -> list[Finding]:
    """Everything that was found, in order."""
    return [*_slopes(record), *_growth(record), *_latencies(record), *_ends(record)]


def good(record: Record, found: list[Finding]) -> bool:
    """Return True if no bound was missed and nothing went wrong."""
    return not record.complaints and all(each.judgement != "MISSED" for each in found)


def _judged(value: float, bound: float, seconds: float, enough_s: float) -> Judgement:
    if seconds < enough_s:
        return "too short"
    return "met" if value <= bound else "MISSED"


def _slopes(record: Record) -> Iterator[Finding]:
    for name in record.names():
        bound = next(((unit, most) for like, unit, most in BOUNDS_PER_HOUR if re.fullmatch(like, name)), None)
        found = slope(record.series(name))
        if bound is None or found is None:
            continue
        unit, most = bound
        judgement = _judged(found.per_hour, most, found.seconds, JUDGED_FROM_S)
        if judgement == "MISSED" and re.fullmatch(r"broker-\d+ rss", name) and found.grown <= UNCOLLECTED_MB:
            judgement = "too short"
        yield Finding(name, found.per_hour, f"{unit}/h".lstrip(), most, judgement, level=found.level)


def _growth(record: Record) -> Iterator[Finding]:
    for series, name, bound in GROWTH:
        ratio = growth_ratio(record.values(series), record.values("tasks"))
        if ratio is not None:
            judgement = _judged(ratio, bound, record.seconds / 10, JUDGED_TENTH_S)
            yield Finding(name, ratio, "last/first tenth", bound, judgement)


def _latencies(record: Record) -> Iterator[Finding]:
    tenth_s = record.seconds / 10
    for kind, percent, bound in LATENCIES:
        first = record.milliseconds(kind, 0, tenth_s)
        last = record.milliseconds(kind, record.seconds - tenth_s, record.seconds)
        if not first or not last:
            continue
        before, after = percentile(first, percent), percentile(last, percent)
        ratio = after / before if before else 1.0
        judgement = _judged(ratio, bound, tenth_s, JUDGED_TENTH_S)
        name = f"{kind} p{percent} ms"
        yield Finding(name, ratio, "last/first tenth", bound, judgement, before, after)


def _ends(record: Record) -> Iterator[Finding]:
    for name in NONE_OF:
        count = record.ends.get(name)
        if count is not None:
            yield Finding(name, count, "", 0, "met" if count == 0 else "MISSED")


def table(found: list[Finding]) -> str:
    """For people: one line each."""
    return "\n".join(_line(each) for each in found)


def _line(each: Finding) -> str:
    bound = "-" if each.bound is None else f"{each.bound:g}"
    where = (
        f"from {each.first:g} to {each.last:g}" if each.first is not None and each.last is not None else ""
    )
    where = where or (f"at {each.level:.1f}" if each.level is not None else "")
    return (
        f"{each.name:32} {each.value:>12.2f} {each.unit:17} {bound:>8} {each.judgement:10} {where}".rstrip()
    )
