"""Ends a child that must not go on: its leases are no longer trusted, or its parent is gone.

It is a thread of its own, which runs whatever user code does, unless that holds the GIL in C code (then the
stream process kills the child).
"""

import os
import threading
import time
from collections.abc import Callable
from typing import Final

from hyrex.worker.child.runner import Runner
from hyrex.worker.shared.child_options import ORPHANED, UNTRUSTED
from hyrex.worker.shared.logs import write_stderr
from hyrex.worker.shared.memory import TrustCell

_TICK_S: Final = 0.05


def start_watchdog(runner: Runner, trust: TrustCell, parent_pid: int, at_tick: Callable[[], None]) -> None:
    """Start the watchdog's thread, which calls `at_tick` too."""
    threading.Thread(
        target=_watch, args=(runner, trust, parent_pid, at_tick), name="hyrex-watchdog", daemon=True
    ).start()


def _watch(runner: Runner, trust: TrustCell, parent_pid: int, at_tick: Callable[[], None]) -> None:
    while True:
        if os.getppid() != parent_pid:
            os._exit(ORPHANED)
        if runner.executions():
            if not trust.trusted():
                write_stderr("hyrex child: leases are no longer trusted, ending")
                os._exit(UNTRUSTED)
            runner.check(time.monotonic_ns())
            at_tick()
        time.sleep(_TICK_S)
