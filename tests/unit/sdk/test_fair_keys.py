"""Fair keys in the SDK: what makes them, what they may be, and how they are sent."""

import pickle
from typing import Any

import pytest

from hyrex import HyrexRegistry
from tests.unit.sdk.test_concurrency_keys import sent

hy = HyrexRegistry()


@hy.task(fair_key=lambda tenant, amount: tenant or None, concurrency_key=lambda tenant, amount: amount)
def render(tenant: str, amount: int) -> None:
    """Do nothing."""


def _nothing() -> None:
    """Do nothing."""


def test_both_kinds_of_keys_are_made_of_the_arguments() -> None:
    tasks = sent(render.call("ada", 1), render.call("", 2), render.call("ben", 1))
    assert [(task.fair_key, task.concurrency_key) for task in tasks] == [
        ("ada", "1"),
        ("", "2"),
        ("ben", "1"),
    ]


def test_with_config_says_one_key_and_leaves_the_other_to_the_arguments() -> None:
    said = render.with_config(fair_key=7)
    assert [(task.fair_key, task.concurrency_key) for task in sent(said.call("ada", 1))] == [("7", "1")]
    none = pickle.loads(pickle.dumps(render.with_config(fair_key=None)))
    assert [(task.fair_key, task.concurrency_key) for task in sent(none.call("ada", 1))] == [("", "1")]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fair_key": lambda order: order}, "fair_key is called with the task's arguments"),
        ({"fair_key": b"k"}, "fair_key must be a str"),
        ({"fair_key": "x" * 256}, "fair_key must have 1..255 bytes"),
    ],
)
def test_bad_keys_are_refused_at_the_decorator(options: dict[str, Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        HyrexRegistry().task(**options)(_nothing)
