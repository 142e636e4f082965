"""Ends this process when the one that started it is gone: a killed process cannot say so, so this polls."""

import os
import threading
import time
from collections.abc import Callable
from typing import Final

from hyrex.worker.shared.child_options import ORPHANED
from hyrex.worker.shared.remains import end_everything_below

_LOOK_EVERY_S: Final = 0.2


def follow(parent_pid: int, gone: Callable[[], None], end_within_s: float) -> None:
    """Watch the parent from now on. When it is gone, call `gone` from a thread; exit `end_within_s` later."""
    threading.Thread(
        target=_follow, args=(parent_pid, gone, end_within_s), name="hyrex-follow-parent", daemon=True
    ).start()


def _follow(parent_pid: int, gone: Callable[[], None], end_within_s: float) -> None:
    while os.getppid() == parent_pid:
        time.sleep(_LOOK_EVERY_S)
    try:
        gone()
        time.sleep(end_within_s)
    finally:
        end_everything_below()
        os._exit(ORPHANED)
