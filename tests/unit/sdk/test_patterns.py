"""A star stands for any run of characters, and nothing else is special."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyrex.runtime import patterns


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*", "", True),
        ("*", "anything", True),
        ("mail", "mail", True),
        ("mail", "mails", False),
        ("mail", "Mail", False),
        ("mail.*", "mail.out", True),
        ("mail.*", "mailxout", False),
        ("*.high", "billing.high", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("[ab]?", "a1", False),
        ("[ab]?", "[ab]?", True),
        ("**", "anything", True),
        ("a**b", "ab", True),
        ("*b*", "abc", True),
        ("*", "a*b", True),
    ],
)
def test_a_star_matches_any_run_of_characters(pattern: str, name: str, expected: bool) -> None:
    assert patterns.compile([pattern])(name) is expected


def test_any_of_several_patterns_is_enough() -> None:
    matches = patterns.compile(["mail", "billing.*"])
    assert [matches(name) for name in ("mail", "billing.eu", "else")] == [True, True, False]


def test_no_patterns_match_nothing() -> None:
    assert not patterns.compile([])("mail")


@given(st.text(alphabet="ab*.", max_size=8), st.text(alphabet="ab.", max_size=10))
def test_it_agrees_with_regular_expressions(pattern: str, name: str) -> None:
    regex = ".*".join(re.escape(part) for part in pattern.split("*"))
    assert patterns.compile([pattern])(name) is (re.fullmatch(regex, name, re.DOTALL) is not None)


@given(
    st.lists(st.text(alphabet="ab*", min_size=1, max_size=4), max_size=4), st.text(alphabet="ab", max_size=5)
)
def test_many_patterns_are_what_each_of_them_is(several: list[str], name: str) -> None:
    """Heads, tails and names are asked for all at once."""
    assert patterns.known(tuple(several))(name) is any(patterns.compile([each])(name) for each in several)
