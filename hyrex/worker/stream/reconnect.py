"""Keeps a stream to some broker open for as long as the worker lives.

It tries one URL after the other with jittered backoff, returns to the first when that serves again, begins
a new session when the broker says that one is over, and gives up only on errors that no retry can mend.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Final

from hyrex.transport.channel import Address, open_address, parse_url
from hyrex.transport.kept_status import keep_status
from hyrex.transport.token import bearer_metadata
from hyrex.v1.worker_service_pb2_grpc import WorkerServiceStub
from hyrex.worker.shared.backoff import backoff_s
from hyrex.worker.stream.route import Route
from hyrex.worker.stream.stream import Stream, StreamEnded, StreamParts

log = logging.getLogger("hyrex.worker")

_FIRST_JITTER_S: Final = 0.05
_LONGEST_BACKOFF_S: Final = 5.0
_REFUSALS: Final = {
    "PROTOCOL_UNSUPPORTED": "this worker speaks a protocol version that the broker does not: {}",
    "TOKEN_INVALID": "the broker refuses the token (HYREX_TOKEN): {}",
    "RIGHT_MISSING": "the token (HYREX_TOKEN) may not do this; is -q wider than its queues? {}",
    "INVALID_FIELD": "the broker refuses this worker's Hello: {}",
    "SPANS_CELLS": "this is the address of a gateway: {}",
}


class BrokerRefuses(Exception):
    """The broker refuses this worker for a reason that no retry can change; the text says which."""


class Reconnector:
    """Opens one stream after the other until it is told to finish."""

    def __init__(self, parts: StreamParts, urls: str, token: str, on_welcome: Callable[[], None]) -> None:
        """Nothing happens before `run`."""
        self._parts = parts
        self._route = Route(parse_url(urls))
        self._urls = urls
        self._metadata = bearer_metadata(token or None)
        self._on_welcome = on_welcome
        self.is_connected = False
        self._warned = False
        self._failures = 0  # streams in a row on which the broker acknowledged nothing
        self._finished = asyncio.Event()

    def finish(self) -> None:
        """Open no other stream: Goodbye is about to be sent on this one."""
        self._finished.set()

    async def run(self) -> None:
        """Stay connected until finished. Raises: BrokerRefuses."""
        while not self._finished.is_set():
            jitter_s = random.uniform(0, _FIRST_JITTER_S)
            try:
                leave_within_s = await self._speak(self._route.next())
                if self._finished.is_set():
                    return
                jitter_s = random.uniform(0, leave_within_s or _FIRST_JITTER_S)
            except StreamEnded as end:
                self._react(end)
            if self._failures:
                longest_s = backoff_s(0.1, self._failures, self._longest_backoff_s())
                jitter_s = max(jitter_s, random.uniform(longest_s / 4, longest_s))
            await asyncio.sleep(jitter_s)

    def _longest_backoff_s(self) -> float:
        """The longest pause; a short one while leases are held, to find a broker before they expire."""
        session = self._parts.session
        return (
            min(_LONGEST_BACKOFF_S, session.terms.lease_duration_s / 10)
            if session.held
            else _LONGEST_BACKOFF_S
        )

    async def _speak(self, address: Address) -> float | None:
        """Open one stream and run it to its end; return the jitter if a broker that drains asked for one."""
        async with open_address(address) as channel:
            call = keep_status(WorkerServiceStub(channel).Work(metadata=self._metadata))
            stream = Stream(self._parts, call)
            watcher = asyncio.create_task(self._watch(stream), name="hyrex-stream-watch")
            try:
                await stream.run()
            except StreamEnded:
                if stream.leave_within_s is None and not self._finished.is_set():
                    raise
            finally:
                watcher.cancel()
                self.is_connected = False
                self._route.ended(was_of_use=stream.proven)
                self._failures = 0 if stream.proven else self._failures + 1
            return stream.leave_within_s

    async def _watch(self, stream: Stream) -> None:
        """Announce a stream once it is welcomed, and end it when another broker is to be used."""
        await stream.welcomed.wait()
        self._warned = False
        self.is_connected = True
        self._on_welcome()
        if await self._sent_away(stream):
            await asyncio.sleep(random.uniform(0, stream.leave_within_s or 0.0))
        stream.leave_within_s = 0.0
        stream.hang_up("another broker is better")

    async def _sent_away(self, stream: Stream) -> bool:
        """Wait until this stream is to be replaced.

        Return True if its broker asked for that, False if the first broker serves again.
        """
        while True:
            try:
                async with asyncio.timeout(self._route.look_after_s()):
                    return await stream.sent_away.wait()
            except TimeoutError:
                if await self._route.return_home() and not self._finished.is_set():
                    log.info("going back to %s", self._route.home.url)
                    return False

    def _react(self, end: StreamEnded) -> None:
        """Log why a stream ended, once for each outage. Raises: BrokerRefuses."""
        if end.reason in _REFUSALS and not end.welcomed:
            raise BrokerRefuses(_REFUSALS[end.reason].format(end))
        if end.reason in ("SESSION_ENDED", "SESSION_SECRET_INVALID"):
            log.warning("the session is over (%s); beginning a new one", end)
            if end.reason == "SESSION_ENDED" and end.welcomed:
                self._parts.session.end()
            else:
                self._parts.session.forget()
            self._parts.workload.begin_anew((), was_trusted=False)
        elif not self._warned:
            self._warned = True
            text = "lost the broker" if end.welcomed else f"cannot reach a broker at {self._urls}"
            log.warning("%s: %s; trying again until it answers", text, end)
