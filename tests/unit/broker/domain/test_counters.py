"""Counters stay small whatever callers do, and histograms count each value once."""

from hypothesis import given
from hypothesis import strategies as st

from hyrex.runtime.histogram import Histogram
from hyrex_broker.domain.counters import MOST_LANES, OTHER, Counters
from hyrex_broker.domain.model import LaneId, Outcome

BOUNDS = (1, 5, 10)


@given(st.lists(st.integers(0, 20)))
def test_a_batch_is_counted_as_its_values_one_by_one(values: list[int]) -> None:
    together, apart = Histogram(BOUNDS), Histogram(BOUNDS)
    together.add_all(values)
    for value in values:
        apart.add(value)
    assert together.counts == apart.counts
    assert together.total == sum(values)
    assert together.count == len(values)


def test_a_value_at_a_bound_belongs_below_it() -> None:
    found = Histogram(BOUNDS)
    found.add_all([1, 5, 5, 11])
    assert found.counts == [1, 2, 0, 1]


def test_columns_of_none_one_and_all_values_count_as_many() -> None:
    found = Histogram(BOUNDS)
    found.add_column((), 3)
    found.add_column((7,), 2)
    found.add_column((1, 11), 2)
    assert (found.counts, found.total) == ([4, 0, 2, 1], 26)


def test_lanes_beyond_the_first_thousand_are_counted_as_one() -> None:
    counters = Counters()
    for number in range(1, 3 * MOST_LANES):
        counters.stored({LaneId(number): 2})
        counters.returned(LaneId(number), 1, (5,))
        counters.run_ended(LaneId(number), Outcome.FAILED, final=False)
    assert len(counters.submitted) == len(counters.run_time) == MOST_LANES + 1
    assert counters.submitted[LaneId(1)] == 2
    assert counters.submitted[OTHER] == 2 * (2 * MOST_LANES - 1)
    assert len(counters.runs) == 2 * (MOST_LANES + 1)
    assert (OTHER, Outcome.FAILED) not in counters.ended
