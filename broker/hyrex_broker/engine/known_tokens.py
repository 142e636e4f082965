"""The tokens that this broker knows: the decision on a call is a look into a dictionary.

The tokens in the database are read every two seconds: those that changed lately, now and then all. A token
that is not known is looked for once more before it is refused, together with all others that wait: however
many unknown ones come, no more than ten statements a second are made. While the database is away the last
decision on a known token stands, and on an unknown one there is none (rule 40).
"""

import asyncio
import hmac
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.rights import Caller, root
from hyrex_broker.domain.tokens import digest, is_whole
from hyrex_broker.storage.tokens import StoredToken

log = logging.getLogger(__name__)

ROUND_S: Final = 2.0
_SHORTEST_PAUSE_S: Final = 0.1
_CHANGED_WITHIN_S: Final = 60.0
_ALL_EVERY_S: Final = 50.0
MOST_UNKNOWN: Final = 10_000
MOST_WAITING: Final = 1000


class Tokens(Protocol):
    """Reads tokens. Raises StorageUnavailable."""

    async def all(self) -> list[StoredToken]:
        """Every token."""
        ...

    async def changed(self, within_s: float) -> list[StoredToken]:
        """Tokens that were made or revoked so lately."""
        ...


@dataclass(frozen=True, slots=True)
class Undecided:
    """A token that is not known here, by its hash, or a name in a certificate."""

    hash: bytes = b""
    names: tuple[str, ...] = ()


@dataclass(eq=False, slots=True)
class OpenStream:
    """A call that lasts: it is ended when its caller's token ends."""

    caller: Caller
    end: Callable[[], None] = field(repr=False)


class KnownTokens:
    """The tokens of the cluster, and those that this broker was started with."""

    def __init__(
        self, store: Tokens, roots: Iterable[str], reread_roots: Callable[[], list[str] | None] | None = None
    ) -> None:
        """`reread_roots`: the tokens to be started with if they have changed, else None."""
        self._store = store
        self._reread_roots = reread_roots
        self._roots: dict[bytes, Caller] = {}
        self._known: dict[bytes, StoredToken] = {}
        self._names: dict[str, StoredToken] = {}
        self._unknown: OrderedDict[bytes, None] = OrderedDict()
        self._streams: dict[bytes, set[OpenStream]] = {}
        self._wanted = asyncio.Event()
        self._next: asyncio.Future[StorageUnavailable | None] | None = None
        self._waiting = 0
        self._all_at = float("-inf")
        self.set_roots(roots)

    def set_roots(self, tokens: Iterable[str]) -> None:
        """Set the tokens that may do everything."""
        self._roots = {key: root(key) for key in (digest(token.encode()) for token in tokens)}
        self._unknown.clear()

    def decision(self, token: str) -> Caller | Undecided | None:
        """Who has this token; None: nobody. Undecided: `decide` has to look."""
        try:
            key = digest(token.encode())
        except UnicodeEncodeError:
            return None
        found = self._roots.get(key)
        # The comparison takes the same time wherever the hashes differ. What is looked up is a hash, of which
        # nobody can choose the beginning.
        if found is not None and hmac.compare_digest(found.key, key):
            return found
        known = self._known.get(key)
        if known is not None and hmac.compare_digest(known.hash, key):
            return known.caller if known.is_good(time.monotonic()) else None
        if key in self._unknown or not is_whole(token):
            return None
        return Undecided(key)

    def named(self, names: Iterable[str]) -> Caller | None:
        """Who has one of these names, which a certificate proves."""
        now = time.monotonic()
        for name in names:
            known = self._names.get(name)
            if known is not None and known.is_good(now):
                return known.caller
        return None

    async def decide(self, asked: Undecided) -> Caller | None:
        """The decision after a look into the database. Raises StorageUnavailable: there is none."""
        if asked.names and (found := self.named(asked.names)) is not None:
            return found
        if self._waiting >= MOST_WAITING:
            raise StorageUnavailable(f"{MOST_WAITING} calls with unknown tokens wait already; repeat it")
        self._waiting += 1
        try:
            error = await self._looked()
        finally:
            self._waiting -= 1
        if error is not None:
            raise StorageUnavailable(
                f"the token is not known here, and the database is away: {error.message}"
            )
        if asked.names:
            return self.named(asked.names)
        known = self._known.get(asked.hash)
        if known is not None and known.is_good(time.monotonic()):
            return known.caller
        if known is None:
            self._remember_unknown(asked.hash)
        return None

    def open(self, stream: OpenStream) -> None:
        """Note a call that lasts."""
        self._streams.setdefault(stream.caller.key, set()).add(stream)

    def close(self, stream: OpenStream) -> None:
        """Forget it."""
        streams = self._streams.get(stream.caller.key, set())
        streams.discard(stream)
        if not streams:
            self._streams.pop(stream.caller.key, None)

    def sizes(self) -> dict[str, int]:
        """What is here now, for a report of this process (SIGUSR1)."""
        return {
            "tokens": len(self._known),
            "unknown tokens": len(self._unknown),
            "calls that wait for a decision": self._waiting,
            "open streams": sum(map(len, self._streams.values())),
        }

    def hurry(self) -> None:
        """Read soon: something has changed."""
        self._wanted.set()

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(_SHORTEST_PAUSE_S)
            try:
                async with asyncio.timeout(ROUND_S - _SHORTEST_PAUSE_S):
                    await self._wanted.wait()
            except TimeoutError:
                pass

    async def refresh(self) -> None:
        """Read what has changed, answer those who wait for it, and end the streams of tokens that have
        ended."""
        self._wanted.clear()
        waiting, self._next = self._next, None
        error: StorageUnavailable | None = StorageUnavailable("the tokens could not be read")
        try:
            await self._read()
            error = None
        except StorageUnavailable as caught:
            error = caught
        finally:
            if waiting is not None and not waiting.done():
                waiting.set_result(error)
        self._read_roots()
        self._end_streams()

    async def _read(self) -> None:
        now = time.monotonic()
        if now - self._all_at < _ALL_EVERY_S:
            found = await self._store.changed(_CHANGED_WITHIN_S)
            self._known |= {token.hash: token for token in found}
        else:
            self._known = {token.hash: token for token in await self._store.all()}
            self._all_at = now
        self._names = {token.caller.name: token for token in self._known.values() if token.is_good(now)}

    def _read_roots(self) -> None:
        changed = None if self._reread_roots is None else self._reread_roots()
        if changed is not None:
            self.set_roots(changed)
            log.info("the file of tokens was read again", extra={"tokens": len(self._roots)})

    def _end_streams(self) -> None:
        now = time.monotonic()
        for key, streams in list(self._streams.items()):
            known = self._known.get(key)
            if key not in self._roots and (known is None or not known.is_good(now)):
                for stream in list(streams):
                    stream.end()

    async def _looked(self) -> StorageUnavailable | None:
        """Wait for a read that begins after this; return the error with which it ended."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        self._wanted.set()
        return await asyncio.shield(self._next)

    def _remember_unknown(self, key: bytes) -> None:
        """It was made up, and will never be a token: those have 256 random bits."""
        self._unknown[key] = None
        if len(self._unknown) > MOST_UNKNOWN:
            self._unknown.popitem(last=False)
