"""A rate holds in every window of time, whatever the clock does."""

from datetime import UTC, datetime, timedelta
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from hyrex_broker.domain.rates import Rate, bucket, default_burst

NOW = datetime(2030, 1, 1, tzinfo=UTC)
RATES = st.builds(
    Rate,
    count=st.integers(1, 1000),
    period_ms=st.sampled_from([1000, 60_000, 3_600_000]),
    burst=st.integers(1, 50),
)


@given(
    rate=RATES,
    steps=st.lists(st.tuples(st.integers(0, 90_000_000), st.integers(0, 60)), min_size=1, max_size=30),
)
def test_in_any_window_no_more_is_assigned_than_the_burst_and_the_rate(
    rate: Rate, steps: list[tuple[int, int]]
) -> None:
    full_at, assigned = None, []
    for moment_us, (_, wanted) in zip(accumulate(us for us, _ in steps), steps, strict=True):
        found = bucket(rate, full_at, NOW + timedelta(microseconds=moment_us), None)
        taken = min(found.tokens, wanted)
        full_at = found.after(taken)
        assigned.append((moment_us, taken))
    for first in range(len(assigned)):
        for last in range(first, len(assigned)):
            window_us = assigned[last][0] - assigned[first][0]
            most = rate.burst + window_us * rate.count // (rate.period_ms * 1000)
            assert sum(taken for _, taken in assigned[first : last + 1]) <= most


@given(rate=RATES, taken=st.integers(0, 50))
def test_after_its_wait_there_is_a_token_and_none_a_moment_before(rate: Rate, taken: int) -> None:
    full = bucket(rate, None, NOW, None)
    assert full.tokens == rate.burst
    taken = min(taken, rate.burst)
    rest = bucket(rate, full.after(taken), NOW, None)
    assert rest.tokens == rate.burst - taken
    if not rest.tokens:
        at = NOW + full.wait(taken)
        assert bucket(rate, full.after(taken), at, None).tokens >= 1
        if rate.cost(rate.burst) > timedelta(milliseconds=20) < rate.cost(1):
            before = at - timedelta(microseconds=2)
            assert bucket(rate, full.after(taken), before, None).tokens == 0


def test_a_clock_that_was_set_back_gives_nothing_twice_and_blocks_nothing() -> None:
    rate = Rate(60, 60_000, 5)
    full_at = bucket(rate, None, NOW, None).after(5)
    back = NOW - timedelta(days=1)
    found = bucket(rate, full_at, back, None)
    assert (found.tokens, found.anew) == (0, True)
    assert found.wait(0) <= timedelta(seconds=1)
    assert bucket(rate, found.after(0), back + timedelta(seconds=2), None).tokens == 2


def test_a_clock_that_was_set_forward_gives_no_second_burst() -> None:
    rate = Rate(60, 60_000, 5)
    full_at = bucket(rate, None, NOW, None).after(5)
    ahead = NOW + timedelta(days=1)
    assert bucket(rate, full_at, ahead, ahead).tokens == 0
    assert bucket(rate, full_at, ahead + timedelta(seconds=2), ahead).tokens == 2


def test_a_burst_that_is_left_out_is_what_the_rate_gives_in_a_tenth_of_a_second() -> None:
    assert [default_burst(*rate) for rate in ((100, 60_000), (1000, 1000), (15, 1000))] == [1, 100, 2]
