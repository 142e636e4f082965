"""What tests do with an event loop, however slow the machine is."""

import asyncio
from typing import Any, Final

_AGAIN_AFTER_S: Final = 5.0
_ENDED_WITHIN_S: Final = 60.0


async def settle() -> None:
    """Give every asyncio task so many turns that all wait for something.

    A pause of some milliseconds might be over before that on a busy machine.
    """
    for _ in range(200):
        await asyncio.sleep(0)


async def end(*running: "asyncio.Future[Any]") -> None:
    """Cancel what runs until cancelled, again where it goes on. What it raises is of no interest.

    A connection that does not answer in time turns a cancellation into an error, after which a loop goes on.
    """
    pending, until = set(running), asyncio.get_running_loop().time() + _ENDED_WITHIN_S
    while pending:
        for each in pending:
            each.cancel()
        _, pending = await asyncio.wait(pending, timeout=_AGAIN_AFTER_S)
        assert not pending or asyncio.get_running_loop().time() < until, f"they go on: {pending}"
    await asyncio.gather(*running, return_exceptions=True)
