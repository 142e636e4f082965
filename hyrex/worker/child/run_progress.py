"""Tells the stream process how far runs are: of each the newest word, at most twice a second."""

import threading
import time
from collections.abc import Callable
from typing import Final

from hyrex.context import HyrexContext
from hyrex.progress import RunProgress
from hyrex.worker.child.execution import Execution
from hyrex.worker.child.forks import is_fork
from hyrex.worker.shared.child_messages import Progressed

_PAUSE_S: Final = 0.5


class ProgressTeller:
    """Keeps words that were not sent yet; the watchdog's thread sends them."""

    def __init__(self, send: Callable[[Progressed], None], executions: Callable[[], list[Execution]]) -> None:
        self._send = send
        self._executions = executions
        self._lock = threading.Lock()
        self._newest: dict[int, Progressed] = {}
        self._next = 0.0

    def tell(self, context: HyrexContext, progress: RunProgress) -> None:
        """Called by a run, from whichever thread. What an ended run or a run elsewhere says is dropped.

        So is what a fork says: threads that it does not have may hold the locks that it would wait for.
        """
        if is_fork():
            return
        for execution in self._executions():
            if execution.has_made(context):
                word = Progressed(execution.token, progress.done, progress.total, progress.text)
                with self._lock:
                    self._newest[execution.token] = word
                return

    def flush(self) -> None:
        """Send what is due; called again and again."""
        if not self._newest or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _PAUSE_S
        with self._lock:
            words, self._newest = self._newest, {}
        for word in words.values():
            self._send(word)
