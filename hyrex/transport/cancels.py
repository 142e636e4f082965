"""Who cancelled: a closing channel cancels its calls in the same way as their caller would."""

import asyncio

__all__ = ["is_ours"]


def is_ours() -> bool:
    """Whether somebody cancelled the current task.

    A function: a task that is kept by a frame that its own CancelledError keeps would keep its call as well.
    """
    task = asyncio.current_task()
    return task is None or bool(task.cancelling())
