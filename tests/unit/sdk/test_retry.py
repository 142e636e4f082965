"""When a failed run is retried."""

import logging
import re
import time
from datetime import timedelta
from typing import Any

import pytest

from hyrex import HyrexRegistry, RetryAfter
from hyrex.task import HyrexTask


def task_with(**options: Any) -> HyrexTask[..., Any]:
    def retried() -> None: ...

    return HyrexRegistry().task(**options)(retried)


def test_default_doubles_to_a_bound_with_a_fifth_of_jitter() -> None:
    task = task_with()
    for number, bare in [(1, 1.0), (2, 2.0), (5, 16.0), (9, 256.0), (10, 300.0), (5000, 300.0)]:
        delays = [task.retry_delay_s(number) for _ in range(200)]
        assert all(0.8 * bare <= delay <= 1.2 * bare for delay in delays)
        assert max(delays) > bare > min(delays)


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [
        (30, [30, 30, 30]),
        (0, [0, 0, 0]),
        (timedelta(minutes=1), [60, 60, 60]),
        (lambda n: n * 10, [10, 20, 30]),
        (lambda n: timedelta(seconds=n), [1, 2, 3]),
    ],
)
def test_backoff_is_seconds_or_timedelta_or_a_callable_of_the_retry_number(
    backoff: Any, delays: list[float]
) -> None:
    task = task_with(retry_backoff=backoff)
    assert [task.retry_delay_s(n) for n in (1, 2, 3)] == delays


@pytest.mark.parametrize(
    "backoff",
    [
        lambda n: 1 / 0,
        lambda n: -1,
        lambda n: "soon",
        lambda n: None,
        lambda: 1,
        lambda n: time.time() + 60,
        lambda n: float("nan"),
        lambda n: timedelta(days=3661),
    ],
)
def test_backoff_that_fails_falls_back_to_the_default_and_is_logged(
    backoff: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, logger="hyrex.retry"):
        assert 0.8 <= task_with(retry_backoff=backoff).retry_delay_s(1) <= 1.2
    assert "retry_backoff of retried failed for retry 1" in caplog.text


def test_retry_after_takes_seconds_or_a_timedelta() -> None:
    assert RetryAfter(5).seconds == 5.0
    assert RetryAfter(timedelta(minutes=1), "busy").seconds == 60.0
    assert RetryAfter(timedelta(days=3660)).seconds == 316_224_000


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf"), 1e300, timedelta(days=3661)])
def test_retry_after_refuses_what_no_broker_stores(wrong: Any) -> None:
    with pytest.raises(
        ValueError, match=re.escape(f"RetryAfter must be 0..316224000 seconds, got {wrong!r}")
    ):
        RetryAfter(wrong)


def test_retry_after_refuses_a_time_of_day() -> None:
    with pytest.raises(ValueError, match="RetryAfter must be"):
        RetryAfter(time.time() + 60)
    with pytest.raises(TypeError, match="RetryAfter must be seconds or a timedelta, got 'soon'"):
        RetryAfter("soon")  # type: ignore[arg-type]
