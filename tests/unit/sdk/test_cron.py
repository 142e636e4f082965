"""Cron expressions: what they mean in a zone, and that a bad one is refused by name, at little cost."""

import tracemalloc
from datetime import UTC, date, datetime, timedelta

import pytest
from cronsim import CronSim

from hyrex.runtime.cron import Cron, ScheduleInvalid, checked_cron, checked_zone

BERLIN = "Europe/Berlin"


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


def test_a_time_that_a_spring_night_leaves_out_comes_once_after_the_gap() -> None:
    found = Cron("30 2 * * *", BERLIN).between(utc(2026, 3, 28), utc(2026, 3, 31), 10)
    assert found == [utc(2026, 3, 28, 1, 30), utc(2026, 3, 29, 1, 0), utc(2026, 3, 30, 0, 30)]


def test_a_time_that_an_autumn_night_has_twice_comes_once() -> None:
    nightly = Cron("30 2 * * *", BERLIN)
    found = nightly.between(utc(2026, 10, 24), utc(2026, 10, 27), 10)
    assert found == [utc(2026, 10, 24, 0, 30), utc(2026, 10, 25, 0, 30), utc(2026, 10, 26, 1, 30)]
    # Seen from the hour that comes again, its first half past two is over.
    assert nightly.next_after(utc(2026, 10, 25, 1, 10)) == utc(2026, 10, 26, 1, 30)


@pytest.mark.parametrize(("first", "count"), [(utc(2026, 3, 28, 23), 46), (utc(2026, 10, 24, 22), 50)])
def test_every_half_hour_runs_through_both_nights(first: datetime, count: int) -> None:
    day = timedelta(hours=count / 2)
    found = Cron("*/30 * * * *", BERLIN).between(first, first + day, 100)
    assert found == [first + timedelta(minutes=30 * number) for number in range(count)]


@pytest.mark.parametrize(
    ("alias", "slot"),
    [
        ("@hourly", utc(2026, 5, 6, 8)),
        ("@daily", utc(2026, 5, 7)),
        ("@midnight", utc(2026, 5, 7)),
        ("@weekly", utc(2026, 5, 10)),
        ("@Monthly", utc(2026, 6, 1)),
        ("@yearly", utc(2027, 1, 1)),
        ("0 9 * * mon-fri", utc(2026, 5, 6, 9)),
        ("0 0 L * *", utc(2026, 5, 31)),
        ("0 0 29 2 *", utc(2028, 2, 29)),
    ],
)
def test_an_expression_says_when_it_is_due_next(alias: str, slot: datetime) -> None:
    assert Cron(alias, "").next_after(utc(2026, 5, 6, 7, 30)) == slot


def test_the_latest_slots_are_those_up_to_now() -> None:
    daily = Cron("0 9 * * *", BERLIN)
    assert daily.latest(utc(2026, 5, 1), utc(2026, 5, 6, 7), 2) == [utc(2026, 5, 5, 7), utc(2026, 5, 6, 7)]
    assert daily.latest(utc(2026, 5, 5, 7), utc(2026, 5, 6, 6), 9) == []
    assert daily.next_slots(utc(2026, 5, 6, 7), 2) == [utc(2026, 5, 7, 7), utc(2026, 5, 8, 7)]


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("", "five fields"),
        ("* * * *", "five fields"),
        ("* * * * * *", "five fields"),
        ("@often", "five fields"),
        ("60 * * * *", "minute '60'"),
        ("* 24 * * *", "hour '24'"),
        ("* * 0 * *", "day of month '0'"),
        ("* * * 13 *", "month '13'"),
        ("* * * * 8", "day of week '8'"),
        ("* * * * someday", "day of week 'someday'"),
        ("5-1 * * * *", "minute '5-1'"),
        ("*/0 * * * *", "minute '*/0'"),
        ("1--100000000 * * * *", "minute '1--100000000'"),
        ("0-99999999999 * * * *", "minute"),
        ("1,,2 * * * *", "minute '1,,2'"),
        ("* * * * MON#1/2", "day of week 'MON#1/2'"),
        ("٣ * * * *", "minute"),
        ("0 0 30 2 *", "would never be due"),
        ("0 0 31 4,6,9,11 *", "would never be due"),
        ("0 0 */31 * MON#5", "would never be due"),
        ("1" * 101, "at most 100 characters"),
    ],
)
def test_a_bad_expression_is_refused_with_its_part(expression: str, words: str) -> None:
    with pytest.raises(ScheduleInvalid) as caught:
        checked_cron(expression)
    assert words in str(caught.value)
    assert str(caught.value).startswith("cron = ")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "name", ["Mars/Base", "Europe", "../../etc/passwd", "/etc/localtime", "a\0b", "x" * 1000, "\udcff"]
)
def test_a_bad_zone_is_refused_by_name(name: str) -> None:
    with pytest.raises(ScheduleInvalid, match=r"tz = .*IANA"):
        checked_zone(name)


@pytest.mark.parametrize("expression", ["1--100000000 * * * *", "0-59/100000000 * * * *", "0 0 */31 * MON#5"])
def test_an_expression_takes_little_memory_and_few_steps(
    expression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at = 0
    match_day = CronSim.match_day

    def counted(self: CronSim, day: date) -> bool:
        nonlocal looked_at
        looked_at += 1
        return match_day(self, day)

    monkeypatch.setattr(CronSim, "match_day", counted)
    tracemalloc.start()
    try:
        with pytest.raises(ScheduleInvalid):
            checked_cron(expression)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 200_000
    assert looked_at <= 1000  # about a microsecond each


@pytest.mark.parametrize(
    ("expression", "zone", "seconds"),
    [
        ("* * * * *", "", 60),
        ("50,0 9,10 * * *", "", 600),
        ("0 0,23 * * sun,mon", "", 3600),
        ("@daily", "", 86_400),
        ("0 12 * * *", BERLIN, 82_800),
    ],
)
def test_a_jitter_must_end_before_the_next_slot(expression: str, zone: str, seconds: int) -> None:
    cron = Cron(expression, zone)
    cron.require_shorter(seconds - 1)
    with pytest.raises(ScheduleInvalid, match=rf"^jitter = {seconds}: reaches .* come {seconds} seconds"):
        cron.require_shorter(seconds)


@pytest.mark.parametrize("expression", ["@weekly", "0 0 29 2 *", "@yearly"])
def test_a_rare_slot_may_have_a_jitter_of_a_day(expression: str) -> None:
    Cron(expression, BERLIN).require_shorter(86_400)


def test_a_jitter_that_reaches_the_next_slot_only_when_clocks_are_changed_is_refused() -> None:
    """From 1 to 4 there are three hours, and two in one night of March."""
    cron = Cron("0 1,4 * * *", BERLIN)
    cron.require_shorter(2 * 3600 - 1)
    with pytest.raises(ScheduleInvalid, match="7200 seconds after one"):
        cron.require_shorter(2 * 3600)
    Cron("0 1,4 * * *", "UTC").require_shorter(3 * 3600 - 1)
