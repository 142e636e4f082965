"""Writes the stream process's log from a thread, so that a reader that is stuck cannot stop the heartbeats.

A paused pager, a terminal that is held or a log shipper that hangs blocks every process that writes to it.
"""

import copy
import logging
import queue
import threading
from typing import Final

MOST_RECORDS: Final = (
    10_000  # wait to be written at most; further ones are dropped, and their number is logged
)
_END: Final = None


class BackgroundLog(logging.Handler):
    """Replaces the root logger's handlers and calls them from a thread."""

    def __init__(self) -> None:
        super().__init__()
        root = logging.getLogger()
        self._handlers = list(root.handlers)
        self._records: queue.Queue[logging.LogRecord | None] = queue.Queue(MOST_RECORDS)
        self._dropped = 0
        root.handlers[:] = [self]
        self._thread = threading.Thread(target=self._write, name="hyrex-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record for the thread; never blocks."""
        made = copy.copy(record)
        made.msg, made.args = record.getMessage(), None  # now: the arguments may change before it is written
        try:
            self._records.put_nowait(made)
        except queue.Full:
            self._dropped += 1

    def finish(self, timeout_s: float) -> bool:
        """Write all queued records. Return True if that was possible in time."""
        try:
            self._records.put(_END, timeout=timeout_s)
        except queue.Full:
            return False
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _write(self) -> None:
        while (record := self._records.get()) is not _END:
            self._emit(record)
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                text = "%d lines of this log were dropped, because they could not be written fast enough"
                self._emit(logging.LogRecord("hyrex.worker", logging.WARNING, "", 0, text, (dropped,), None))

    def _emit(self, record: logging.LogRecord) -> None:
        for handler in self._handlers:
            if record.levelno >= handler.level:
                handler.handle(record)
