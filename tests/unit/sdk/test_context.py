"""The context is there inside a run, and nowhere else."""

import dataclasses
import threading
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from hyrex import HyrexContext, HyrexRegistry, get_hyrex_context
from hyrex.context import bind_context

NOW = datetime.now(UTC)
CONTEXT = HyrexContext(uuid4(), "t", "q", 5, 1, 0, 3, None, uuid4(), 1.5, NOW, NOW, "w")


def test_context_is_none_outside_a_task_and_in_direct_calls() -> None:
    @HyrexRegistry().task
    def asks() -> bool:
        return get_hyrex_context() is None

    assert get_hyrex_context() is None
    assert asks()


def test_bound_context_ends_with_its_block_and_stays_in_its_thread() -> None:
    seen: list[HyrexContext | None] = []
    with bind_context(CONTEXT):
        assert get_hyrex_context() is CONTEXT
        thread = threading.Thread(target=lambda: seen.append(get_hyrex_context()))
        thread.start()
        thread.join()
    assert get_hyrex_context() is None
    assert seen == [None]


def test_context_is_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        CONTEXT.queue = "other"  # type: ignore[misc]
