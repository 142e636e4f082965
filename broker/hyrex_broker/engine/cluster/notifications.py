"""Notifications between brokers over NOTIFY, debounced: never one for each task.

A notification is sent at once if the last one is long enough ago, else when that time has passed, together
with everything that was added meanwhile. If one is lost, polls find what it was about.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.model import LaneId, SessionId, TaskId
from hyrex_broker.storage.brokers import Channel

log = logging.getLogger(__name__)

READY: Final = "hyrex_ready"
FINISHED: Final = "hyrex_finished"
CONFIG: Final = "hyrex_config"
CANCEL: Final = "hyrex_cancel"
_DEBOUNCE_S: Final = 0.02
_RELISTEN_AFTER_S: Final = 0.5
_MOST_WORDS: Final = 200
"""A payload has less than 8,000 bytes, an id 36."""
_MOST_IDS: Final = 3000
"""The most ids that are named; instead of more, the notification says "too many to name"."""
_ALL: Final = ""


class Notifications:
    """Sends this broker's notifications and receives those of the others."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._unsaid: dict[str, set[str]] = {}
        self._call = asyncio.Event()
        self.others = False
        """True if there is another broker; without one, nothing is sent."""
        self.others_watch = False
        """True if a client of another broker watches tasks."""
        self.on_ready: Callable[[list[tuple[LaneId, int]]], None] = lambda pairs: None
        self.on_finished: Callable[[list[TaskId] | None], None] = lambda task_ids: None
        """Called with the ids of tasks that have changed elsewhere; None: too many to name."""
        self.on_config: Callable[[], None] = lambda: None
        self.on_cancel: Callable[[list[SessionId]], None] = lambda sessions: None
        self.on_relisten: Callable[[], None] = lambda: None

    def tell_ready(self, pairs: Iterable[tuple[LaneId, int]]) -> None:
        """Notify that these (lane, rank) pairs have work."""
        if self.others:
            self._say(READY, (f"{lane}:{rank}" for lane, rank in pairs))

    def tell_finished(self, task_ids: Iterable[TaskId]) -> None:
        """Notify that these tasks have changed. With their ids, so that brokers read only those they
        watch."""
        if not self.others_watch:
            return
        words = self._unsaid.get(FINISHED, set())
        if _ALL not in words:
            self._say(FINISHED, task_ids)
            if len(self._unsaid[FINISHED]) > _MOST_IDS:
                self._unsaid[FINISHED] = {_ALL}

    def tell_config(self) -> None:
        """Notify that limits, pauses or lanes have changed."""
        if self.others:
            self._say(CONFIG, (_ALL,))

    def tell_cancel(self, sessions: Iterable[SessionId]) -> None:
        """Notify that these sessions, served elsewhere, have runs to stop."""
        self._say(CANCEL, map(str, sessions))

    def _say(self, name: str, words: Iterable[str]) -> None:
        self._unsaid.setdefault(name, set()).update(words)
        self._call.set()

    def sizes(self) -> dict[str, int]:
        """What is here now, for a report of this process (SIGUSR1)."""
        return {f"unsent words of {name}": len(words) for name, words in self._unsaid.items()}

    async def run(self) -> None:
        """Send and receive until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._speak())

    async def _speak(self) -> None:
        while True:
            await self._call.wait()
            self._call.clear()
            unsaid, self._unsaid = self._unsaid, {}
            for name, words in unsaid.items():
                ordered = sorted(words)
                for start in range(0, len(ordered), _MOST_WORDS):
                    try:
                        await self._channel.tell(name, ",".join(ordered[start : start + _MOST_WORDS]))
                    except StorageUnavailable:
                        log.debug("a notification was lost; the other brokers poll", extra={"channel": name})
            await asyncio.sleep(_DEBOUNCE_S)

    async def _listen(self) -> None:
        while True:
            try:
                await self._channel.listen((READY, FINISHED, CONFIG, CANCEL), self._hear)
            except StorageUnavailable:
                await asyncio.sleep(_RELISTEN_AFTER_S)

    def _hear(self, name: str, text: str) -> None:
        if name == READY:
            pairs = [word.split(":") for word in text.split(",")]
            self.on_ready([(LaneId(int(lane)), int(rank)) for lane, rank in pairs])
        elif name == FINISHED:
            self.on_finished(list(map(TaskId, text.split(","))) if text else None)
        elif name == CONFIG:
            self.on_config()
        elif name == CANCEL:
            self.on_cancel([SessionId(int(word)) for word in text.split(",")])
        else:
            self.on_relisten()
