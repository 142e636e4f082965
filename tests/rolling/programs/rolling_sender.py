"""Sends tasks until SIGTERM and prints the id of each that was acknowledged."""

import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hyrex import SubmitUnknown
from hyrex.errors import BrokerUnavailable

sys.path.insert(0, str(Path(__file__).parent))
tasks: Any = __import__("rolling_tasks")  # by the name that workers have for it, in either version
told_to_stop: list[bool] = []


def main() -> None:
    """Send about 20 tasks a second, of three kinds in turn."""
    signal.signal(signal.SIGTERM, lambda *_: told_to_stop.append(True))
    number = 0
    print("sending", flush=True)
    while not told_to_stop:
        number += 1
        kinds: list[Callable[[], Any]] = [
            partial(tasks.quick.send, number),
            partial(tasks.slow.send, 0.3),
            partial(tasks.parent.send, number),
        ]
        print("acknowledged", surely(kinds[number % len(kinds)]).id, flush=True)
        time.sleep(0.05)


def surely(send: Callable[[], Any]) -> Any:
    """Send until it is acknowledged, always the same task."""
    while True:
        try:
            return send()
        except SubmitUnknown as unknown:
            send = partial(again, unknown.handle)
        except BrokerUnavailable:
            time.sleep(0.1)


def again(handle: Any) -> Any:
    """Send a task again under its id."""
    handle.resend()
    return handle


if __name__ == "__main__":
    main()
