"""Futures that perhaps nobody awaits any more."""

import asyncio
from typing import Any


def retrieve(future: "asyncio.Future[Any]") -> None:
    """A done callback: asyncio must not warn of an error that nobody asks for."""
    if not future.cancelled():
        future.exception()
