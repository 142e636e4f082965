"""Tells who cancelled a call: a channel that closes cancels its calls just as their caller would."""

import asyncio

__all__ = ["is_ours"]


def is_ours() -> bool:
    """Return True if somebody cancelled the current asyncio task.

    A function of its own, so that the caller's frame has no reference to the task: its CancelledError keeps
    the frame, which would keep the task and so its call.
    """
    task = asyncio.current_task()
    return task is None or bool(task.cancelling())
