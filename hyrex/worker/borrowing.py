"""The child's side of lending: asks leave before a run blocks in a wait."""

from __future__ import annotations

import itertools
import queue
from collections.abc import Iterator
from contextlib import contextmanager

from hyrex.context import get_hyrex_context
from hyrex.errors import WouldDeadlock
from hyrex.worker.child_link import ChildLink
from hyrex.worker.frames import Resumed, WaitAnswer, Waiting


class Waits:
    """Entered around each blocking wait of a sync run."""

    def __init__(self, link: ChildLink) -> None:
        """Ask over this link."""
        self._link = link
        self._numbers = itertools.count(1)
        self._answers: dict[int, queue.SimpleQueue[str]] = {}

    @contextmanager
    def around(self) -> Iterator[None]:
        """Lend this run's slot for the time of the block. Raises: WouldDeadlock."""
        if get_hyrex_context() is None:
            yield
            return
        number = next(self._numbers)
        answer = self._answers[number] = queue.SimpleQueue()
        refusal = ""
        try:
            self._link.send(Waiting(number))
            refusal = answer.get()
            if refusal:
                raise WouldDeadlock(refusal)
            yield
        finally:
            del self._answers[number]
            if not refusal:  # stopped before the answer came, too: the slot may have been lent
                self._link.send(Resumed(number))

    def answer(self, message: WaitAnswer) -> None:
        """Called by the reader thread."""
        waiting = self._answers.get(message.request)
        if waiting is not None:
            waiting.put(message.refusal)
