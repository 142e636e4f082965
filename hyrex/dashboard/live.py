"""Pages that follow the cluster: the live parts of one address, made once for all who look at it.

Nobody looking: nothing is asked. A browser gets the parts that have changed since it got them last, and says
itself that it is stale when it hears nothing.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

Key: TypeAlias = tuple[str | None, str]

PERIOD_S: Final = 2.0
MOST_PAGES: Final = 1000
MOST_VIEWERS: Final = 2000


@dataclass(frozen=True, slots=True)
class PageLook:
    """One look at a page. `state`: live, gone (no broker answers), ended (sign in again), or missing."""

    state: str
    regions: Mapping[str, str] = field(default_factory=dict)


class LivePages:
    """The pages that somebody looks at."""

    def __init__(
        self, look: Callable[[str | None, str], Awaitable[PageLook]], period_s: float = PERIOD_S
    ) -> None:
        """`look` makes the live parts of an address as a token sees them; it raises nothing."""
        self._look = look
        self._period_s = period_s
        self._pages: dict[Key, _LivePage] = {}
        self._stopped = False

    async def follow(self, token: str | None, address: str, ends_at: float) -> AsyncGenerator[str, None]:
        """Yield server-sent events until the viewer leaves, its session ends, or all is stopped."""
        page = self._page((token, address))
        page.viewers += 1
        try:
            sent = 0
            while not self._stopped:
                # A second after the cookie is void: what is loaded then asks for a token.
                if time.time() > ends_at + 1:
                    yield told("ended", {})
                    return
                now = page.version
                yield event(page, sent)
                sent = now
                await page.next_look()
        finally:
            page.viewers -= 1
            if page.viewers == 0:
                self._pages.pop((token, address), None)
                page.stop()

    def stop(self) -> None:
        """Let every viewer go, so that the server can end."""
        self._stopped = True
        for page in self._pages.values():
            page.wake()

    def full_for(self, token: str | None) -> bool:
        """True if nobody more can look with this token. One may have as many pages and viewers as it leaves
        free to others; where nobody has a token (None) all are one."""
        pages = Counter(each for each, _ in self._pages)
        viewers: Counter[str | None] = Counter()
        for (each, _), page in self._pages.items():
            viewers[each] += page.viewers
        return _is_full(pages, token, MOST_PAGES) or _is_full(viewers, token, MOST_VIEWERS)

    def _page(self, key: Key) -> "_LivePage":
        if key not in self._pages:
            token, address = key
            self._pages[key] = _LivePage(lambda: self._look(token, address), self._period_s)
        return self._pages[key]


def _is_full(used: Counter[str | None], token: str | None, most: int) -> bool:
    free = most - used.total()
    return free <= 0 or (token is not None and used[token] >= free)


class _LivePage:
    """The newest look at one page. `version` grows with each look."""

    def __init__(self, look: Callable[[], Awaitable[PageLook]], period_s: float) -> None:
        self.version = 0
        self.viewers = 0
        self.state = ""
        self.regions: dict[str, tuple[int, str]] = {}
        self._looked = asyncio.Event()
        self._task = asyncio.create_task(self._run(look, period_s))

    async def next_look(self) -> None:
        """Wait for the next look."""
        await self._looked.wait()

    def wake(self) -> None:
        """Let everybody go on who waits for a look."""
        looked, self._looked = self._looked, asyncio.Event()
        looked.set()

    def stop(self) -> None:
        """Look no more."""
        self._task.cancel()

    async def _run(self, look: Callable[[], Awaitable[PageLook]], period_s: float) -> None:
        while True:
            self._take(await look())
            self.wake()
            await asyncio.sleep(period_s)

    def _take(self, found: PageLook) -> None:
        self.version += 1
        self.state = found.state
        for name, html in found.regions.items():
            if self.regions.get(name, (0, None))[1] != html:
                self.regions[name] = (self.version, html)


def event(page: _LivePage, sent: int) -> str:
    """One server-sent event: the state, and what has changed since the look number `sent`."""
    changed = {name: html for name, (version, html) in page.regions.items() if version > sent}
    return told(page.state, changed)


def told(state: str, regions: Mapping[str, str]) -> str:
    """A server-sent event."""
    text = json.dumps({"state": state, "regions": regions}, ensure_ascii=True)
    return f"data: {text}\n\n"
