"""Results are JSON that every language reads."""

import math
from typing import Any

import pytest

from hyrex import HyrexRegistry, ResultNotSerializable
from hyrex.task import coder_of

hy = HyrexRegistry()


@hy.task
def anything() -> Any:
    return None


@hy.task
def number() -> float:
    return 0.0


@pytest.mark.parametrize("value", [math.nan, [math.inf], {"a": [{"b": -math.inf}]}])
def test_what_only_python_reads_is_refused(value: object) -> None:
    with pytest.raises(ResultNotSerializable, match="not a JSON value"):
        coder_of(anything).encode_result(value)


def test_words_that_look_like_it_are_kept() -> None:
    value = ["NaN", {"Infinity": 1}]
    assert coder_of(anything).decode_result(coder_of(anything).encode_result(value)) == value


def test_a_float_by_its_hint_makes_the_trip() -> None:
    assert math.isnan(coder_of(number).decode_result(coder_of(number).encode_result(math.nan)))
