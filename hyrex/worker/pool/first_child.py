"""The first child: it tells what the app registers, or why it cannot be used."""

from __future__ import annotations

import asyncio

from hyrex.worker.pool.child_process import ChildEvents, ChildPlan, ChildProcess
from hyrex.worker.shared.child_messages import FromChild, Imported, Unusable
from hyrex.worker.shared.platform import exit_reason


class AppUnusable(Exception):
    """The user's app cannot be imported; the text is for people."""


async def first_child(plan: ChildPlan) -> tuple[ChildProcess, Imported]:
    """Start it and hear what it imported. Raises: AppUnusable."""
    told: asyncio.Future[Imported] = asyncio.get_running_loop().create_future()

    def on_message(_child: ChildProcess, message: FromChild) -> None:
        if isinstance(message, Imported) and not told.done():
            told.set_result(message)
        elif isinstance(message, Unusable) and not told.done():
            told.set_exception(AppUnusable(f"cannot use {plan.target}: {message.text}"))

    def on_death(_child: ChildProcess, status: int) -> None:
        if not told.done():
            text = f"importing {plan.target} ended the process with {exit_reason(status)}"
            told.set_exception(AppUnusable(text))

    child = ChildProcess(plan, ChildEvents(on_message, on_death))
    return child, await told
