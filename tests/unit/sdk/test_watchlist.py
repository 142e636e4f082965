"""What a send costs in a process that waits for many tasks: a look at what has changed, not at all."""

import asyncio
from typing import Any

from hyrex.client.waiters import ThreadWaiter
from hyrex.client.watcher import Watcher
from hyrex.client.watchlist import Subscription, Watchlist

MANY = 20_000


class Counted(dict[str, list[Subscription]]):
    """A dictionary that counts what is looked up in it."""

    lookups = 0

    def __contains__(self, key: object) -> bool:
        self.lookups += 1
        return super().__contains__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.lookups += 1
        return super().get(key, default)


class Nowhere:
    """A connection that is not usable."""

    def usable(self, *args: object, **more: object) -> None:
        return None


async def test_a_wake_costs_no_look_at_all_that_is_watched() -> None:
    watchlist, nowhere = Watchlist(), Nowhere()
    many = Subscription({f"task-{number}" for number in range(MANY)}, ThreadWaiter())
    few = Subscription({"one", "two"}, ThreadWaiter())
    watchlist.add(many)
    watchlist.add(few)
    async with asyncio.TaskGroup() as group:
        watcher = Watcher(watchlist, nowhere, group)  # type: ignore[arg-type]
        ids = set(watchlist.take_unwatched(2 * MANY))
        stream: asyncio.Task[Any] = group.create_task(asyncio.Event().wait())
        watcher._streams[stream] = ids
        watcher._stream_of.update(dict.fromkeys(ids, stream))
        watchlist.remove(few)
        counted = watchlist._by_id = Counted(watchlist._by_id)
        watcher.pump()
        lookups, left = counted.lookups, len(ids)
        assert left == MANY, "what nobody waits for is watched no more"
        assert lookups < 10
        watchlist.remove(many)
        watcher.pump()
        await asyncio.wait([stream])
        assert stream.cancelled(), "a stream that nobody needs is ended"
