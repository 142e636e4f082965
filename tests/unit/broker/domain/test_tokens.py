"""The form of tokens: what scanners look for, and what a broker looks up."""

import re

import pytest

from hyrex_broker.domain.rights import Caller, Scope
from hyrex_broker.domain.tokens import is_whole, make_token
from tests.support.pages import read


def test_the_documented_expression_finds_tokens_in_a_text() -> None:
    (expression,) = re.findall(r"regular expression `(\S+)`", read("SECURITY.md"))
    tokens = [make_token() for _ in range(100)]
    assert re.findall(expression, "\n".join(f"HYREX_TOKEN={token};" for token in tokens)) == tokens
    assert len(set(tokens)) == 100


def test_a_token_with_one_other_character_is_none() -> None:
    token = make_token()
    assert is_whole(token)
    for place in range(len(token)):
        assert not is_whole(token[:place] + ("a" if token[place] != "a" else "b") + token[place + 1 :])


@pytest.mark.parametrize(
    ("patterns", "covered", "beyond"),
    [
        (["shop"], ["shop"], ["shop-1", "*", "shop*", ""]),
        (["shop*"], ["shop", "shop-1", "shop*", "shop-*"], ["sho*", "*", "xshop", "*shop"]),
        (["a*b", "c"], ["ab", "a*b", "axb", "a*x*b", "c"], ["a*", "*b", "a*bc", "c*"]),
        (["*"], ["", "a", "*", "a*b"], []),
    ],
)
def test_a_pattern_is_covered_if_all_that_it_matches_is(
    patterns: list[str], covered: list[str], beyond: list[str]
) -> None:
    caller = Caller("n", frozenset({Scope.WORK}), tuple(patterns))
    assert [each for each in covered if not caller.may(Scope.WORK, each)] == []
    assert [each for each in beyond if caller.may(Scope.WORK, each)] == []
    assert not caller.may(Scope.ADMIN, covered[0])
