"""Short tasks that let a worker fetch ahead, and long ones that should not wait behind each other."""

import time
from pathlib import Path
from uuid import uuid4

from hyrex.app import HyrexApp
from hyrex.registry import HyrexRegistry

hy = HyrexRegistry(queue="waiting")
app = HyrexApp("waiting")


@hy.task
def short() -> None:
    """End at once."""


@hy.task
def meet(place: str, count: int) -> float:
    """Wait until so many have come to that place; the machine's clock when this one came."""
    came = time.monotonic()
    (Path(place) / str(uuid4())).touch()
    deadline = came + 30
    while len(list(Path(place).iterdir())) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    return came


@hy.task
def last(seconds: float) -> None:
    """Take so long."""
    time.sleep(seconds)


app.add_registry(hy)
