"""How far back each key has to be looked at, as a broker remembers it."""

import pytest

from hyrex_broker.storage import keyed


def test_a_mark_never_falls_and_no_word_of_a_key_changes_nothing() -> None:
    marks = keyed.KeyMarks()
    marks.note([1, 2], [10, 20])
    marks.note([1, 2, 2], [5, None, 30])
    assert marks.of([1, 2, 3]) == [10, 30, 0]


def test_the_key_that_was_heard_of_longest_ago_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyed, "MOST_MARKS", 2)
    marks = keyed.KeyMarks()
    marks.note([1, 2], [10, 20])
    marks.note([1], [11])
    marks.note([3], [30])
    assert marks.of([1, 2, 3]) == [11, 0, 30]
