"""Stops this process when the one that started it is gone.

A killed parent cannot pass any signal on, so this process polls whether its parent is still there.
"""

import logging
import os
import signal
import threading
import time
from typing import Final

log = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 0.5


def follow(parent_pid: int, stop_within_s: float) -> None:
    """Watch the parent from now on. When it is gone, send SIGTERM to this process; exit `stop_within_s`
    later."""
    threading.Thread(
        target=_follow, args=(parent_pid, stop_within_s), name="hyrex-follow-parent", daemon=True
    ).start()


def _follow(parent_pid: int, stop_within_s: float) -> None:
    while os.getppid() == parent_pid:
        time.sleep(_LOOK_EVERY_S)
    log.error("the process that started this one is gone; stopping", extra={"parent": parent_pid})
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(stop_within_s)
    os._exit(1)
