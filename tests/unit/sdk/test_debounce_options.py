"""Options of sends with a debounce key: what cannot be is refused before anything is sent, in words."""

import re
from datetime import timedelta
from typing import Any

import pytest

from hyrex import HyrexRegistry


def task(**options: Any) -> Any:
    hy = HyrexRegistry()

    @hy.task(**options)
    def save(document: int) -> None:
        """Do nothing."""

    return save


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"debounce_key": "k"}, "needs a delay above 0"),
        ({"debounce_key": "k", "delay": 0}, "needs a delay above 0"),
        ({"debounce_max_wait": 5, "delay": 1}, "give that too"),
        (
            {"debounce_key": "k", "delay": 5, "debounce_max_wait": 4},
            "at least the delay, 0:00:05, got 0:00:04",
        ),
        (
            {"debounce_key": "k", "delay": 5, "idempotency_key": "k"},
            "or idempotency_key, not both",
        ),
        ({"debounce_key": "k", "delay": 5, "expires_in": 4}, "debounce_key or expires_in, not both"),
        ({"debounce_key": "", "delay": 5}, "debounce_key must have 1..255 bytes"),
        ({"debounce_key": "k", "delay": 5, "debounce_max_wait": -1}, "debounce_max_wait must be 0.."),
    ],
)
def test_a_debounce_that_cannot_be_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        task().with_config(**options)


def test_a_tasks_own_time_to_begin_can_be_taken_away_for_a_debounced_send() -> None:
    expiring = task(expires_in=timedelta(minutes=1))
    with pytest.raises(ValueError, match="expires_in=None takes that of the task away"):
        expiring.with_config(debounce_key="k", delay=1)
    assert expiring.with_config(debounce_key="k", delay=1, expires_in=None).options.debounce_key == "k"


@pytest.mark.parametrize("value", [0, -1, 0.0001, 400_000_000])
def test_a_time_to_begin_that_cannot_be_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="task save: expires_in must be"):
        task(expires_in=value)
