"""The stream process's log, written by a thread: nobody who does not read it may stop the heartbeats.

A pager that waits, a terminal that is held or a log shipper that is stuck blocks whoever writes to it.
"""

from __future__ import annotations

import copy
import logging
import queue
import threading
from typing import Final

MOST_RECORDS: Final = 10_000  # that wait to be written; more are dropped, and their number is told
_END: Final = None


class BackgroundLog(logging.Handler):
    """Takes the place of the root logger's handlers and feeds them from a thread."""

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
        """Leave a record to the thread; never blocks."""
        made = copy.copy(record)
        made.msg, made.args = record.getMessage(), None  # as its arguments are now
        try:
            self._records.put_nowait(made)
        except queue.Full:
            self._dropped += 1

    def finish(self, timeout_s: float) -> bool:
        """Write what is left; whether that was possible in time."""
        try:
            self._records.put(_END, timeout=timeout_s)
        except queue.Full:
            return False
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _write(self) -> None:
        while (record := self._records.get()) is not _END:
            self._hand_on(record)
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                text = "%d lines of this log were dropped: nobody read it"
                self._hand_on(
                    logging.LogRecord("hyrex.worker", logging.WARNING, "", 0, text, (dropped,), None)
                )

    def _hand_on(self, record: logging.LogRecord) -> None:
        for handler in self._handlers:
            if record.levelno >= handler.level:
                handler.handle(record)
