"""Lets what is ready in an event loop run, however slow the machine is."""

import asyncio


async def settle() -> None:
    """Give every asyncio task so many turns that all wait for something.

    A pause of some milliseconds might be over before that on a busy machine.
    """
    for _ in range(200):
        await asyncio.sleep(0)
