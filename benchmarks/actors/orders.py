"""How an actor obeys: a JSON object per line on its standard input, one answer per line out."""

import asyncio
import json
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

Obey = Callable[..., Any]


def obey(handle: Obey) -> None:
    """Call `handle(**order)` for each order until the input ends."""
    _say_ready()
    for line in sys.stdin:
        try:
            _answer(handle(**json.loads(line)))
        except Exception:
            _answer({"failed": traceback.format_exc()})


async def obey_async(handle: Callable[..., Awaitable[Any]]) -> None:
    """The same on the running loop."""
    _say_ready()
    while line := await asyncio.to_thread(sys.stdin.readline):
        try:
            _answer(await handle(**json.loads(line)))
        except Exception:
            _answer({"failed": traceback.format_exc()})


def _say_ready() -> None:
    print("actor ready", flush=True)


def _answer(answer: Any) -> None:
    print(json.dumps(answer), flush=True)
