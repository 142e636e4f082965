"""A producer: sends a mix of tasks until it is told to stop, and writes down what was acknowledged.

`python -m tests.chaos.producer SEED RATE`: RATE is tasks per second.
"""

import random
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from hyrex.sent import SentTaskHandle
from tests.chaos import app
from tests.chaos.afterwards import Afterwards

Send = Callable[[], SentTaskHandle]
_KEYS: Final = 50
_DOCUMENTS: Final = 5
_CONCURRENCY_KEYS: Final = 3
_TOGETHER: Final = 5
"""So many at once, so that keys and rates have something to hold back."""


class Producer:
    """Chooses and sends, and now and then does something to what it has sent."""

    def __init__(self, seed: int, rate: float) -> None:
        self._random = random.Random(seed)
        self._pause_s = 1 / rate
        self._afterwards = Afterwards(self._random)
        self._stopping = False
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, _number: int, _frame: object) -> None:
        self._stopping = True

    def run(self) -> None:
        """Send until SIGTERM."""
        while not self._stopping:
            self._send_one()
            self._afterwards.act()
            time.sleep(self._random.uniform(0, 2 * self._pause_s))

    def _send_one(self) -> None:
        rnd = self._random
        choices: list[tuple[float, str, Send]] = [
            (40, "short", partial(app.short.send, 1)),
            (5, "long", partial(app.long.send, rnd.uniform(0.2, 3.0))),
            (5, "long_to_cancel", partial(app.long.send, 5.0)),
            (10, "waiting", partial(app.waiting.send, rnd.uniform(0.01, 1.0))),
            (5, "failing", app.failing.send),
            (8, "retrying", app.retrying.send),
            (4, "parent", partial(app.parent.send, 3)),
            (6, "limited", partial(app.limited.send, rnd.uniform(0.01, 0.2))),
            (6, "narrow", partial(app.narrow.send, rnd.uniform(0.01, 0.2))),
            (6, "short", partial(app.short.with_config(delay=rnd.uniform(0, 2)).send, 2)),
        ]
        key = f"key-{rnd.randrange(_KEYS)}-{int(time.monotonic() / 10)}"
        choices.append((10, "idempotent", partial(app.short.with_config(idempotency_key=key).send, 3)))
        expiring = app.short.with_config(expires_in=rnd.uniform(0.05, 2))
        choices.append((8, "expiring", partial(expiring.send, 4)))
        wait = app.short.with_config(
            debounce_key=f"doc-{rnd.randrange(_DOCUMENTS)}", delay=0.3, debounce_max_wait=1
        )
        choices.append((8, "debounced", partial(wait.send, 5)))
        choices += [
            (5, "workflow", partial(app.shaped.send, rnd.randrange(10_000))),
            (2, "workflow", partial(app.shaped_fast.send, rnd.randrange(10_000))),
            (2, "workflow_to_cancel", partial(app.shaped.send, rnd.randrange(10_000))),
        ]
        choices += self._bounded()
        weights = [weight for weight, _, _ in choices]
        (_, kind, send), *_ = rnd.choices(choices, weights)
        noted = {"key": key} if kind == "idempotent" else {}
        for _ in range(_TOGETHER if kind.startswith("together") else 1):
            handle = app.send_surely(kind, send, **noted)
            if handle is not None:
                self._afterwards.sent(kind, handle)

    def _bounded(self) -> list[tuple[float, str, Send]]:
        """Sends of keyed, rated and fair tasks. What waits, is refused, cancelled or expires has the same
        keys."""
        rnd = self._random
        number = rnd.randrange(_CONCURRENCY_KEYS)
        worked = (rnd.uniform(0.01, 0.15), rnd.choice([0, 0, 0, 1, 2]))
        found: list[tuple[float, str, Send]] = [
            (2, "together_rated", app.rated.send),
            (2, "together_trickle", app.trickle.send),
            (3, "together_fair", partial(app.shared.send, f"tenant {number}", *worked)),
        ]
        for task, key in ((app.one_by_one, f"one-{number}"), (app.some_at_once, f"some-{number}")):
            refusing = task.with_config(on_full="refuse")
            expiring = task.with_config(expires_in=rnd.uniform(0.05, 2))
            delayed = task.with_config(delay=rnd.uniform(0, 2))
            found += [
                (2, "together_keyed", partial(task.send, key, *worked)),
                (3, "keyed", partial(refusing.send, key, *worked)),
                (2, "keyed", partial(delayed.send, key, *worked)),
                (2, "keyed_to_cancel", partial(task.send, key, *worked)),
                (1, "keyed_expiring", partial(expiring.send, key, *worked)),
            ]
        return found


if __name__ == "__main__":
    Producer(int(sys.argv[1]), float(sys.argv[2])).run()
