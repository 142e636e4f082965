"""Starts the first child, which says what the app registers, or why it cannot be used."""

import asyncio

from hyrex.worker.pool.child_process import ChildEvents, ChildPlan, ChildProcess
from hyrex.worker.shared.child_messages import FromChild, Imported, Unusable
from hyrex.worker.shared.platform import exit_reason


class AppUnusable(Exception):
    """The user's app cannot be imported; the text is for people."""


async def first_child(plan: ChildPlan) -> tuple[ChildProcess, Imported]:
    """Start a child; return it and what its app registers. Raises: AppUnusable."""
    imported: asyncio.Future[Imported] = asyncio.get_running_loop().create_future()

    def on_message(_child: ChildProcess, message: FromChild) -> None:
        if isinstance(message, Imported) and not imported.done():
            imported.set_result(message)
        elif isinstance(message, Unusable) and not imported.done():
            imported.set_exception(AppUnusable(f"cannot use {plan.target}: {message.text}"))

    def on_death(_child: ChildProcess, status: int) -> None:
        if not imported.done():
            text = f"importing {plan.target} ended the process with {exit_reason(status)}"
            imported.set_exception(AppUnusable(text))

    child = ChildProcess(plan, ChildEvents(on_message, on_death))
    return child, await imported
