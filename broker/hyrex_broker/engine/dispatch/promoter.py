"""The promoter makes delayed tasks ready when they are due, by the database's clock."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from hyrex_broker.domain.model import TaskId
from hyrex_broker.engine.dispatch.dispatcher import Dispatcher
from hyrex_broker.engine.due_rows import DueRows, Head
from hyrex_broker.storage.marks import DELAYED_HEAD, MarkStore
from hyrex_broker.storage.promote import PromoteStore

_BATCH: Final = 1000
_HEAD: Final = Head("delayed", DELAYED_HEAD, longest_wait_s=1.0)


class Promoter:
    """Moves due tasks in batches; sleeps until the next one is due, at most a second."""

    def __init__(self, store: PromoteStore, marks: MarkStore, dispatcher: Dispatcher) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self.rows: Final = DueRows(_HEAD, store, marks, self._promote)
        self.on_blocked: Callable[[Iterable[TaskId]], None] = lambda task_ids: None
        """Called with tasks that are due and wait for others."""

    def expect(self) -> None:
        """Look again at what is due next: a task was delayed here."""
        self.rows.expect()

    async def run(self) -> None:
        """Promote until cancelled."""
        await self.rows.run()

    async def _promote(self, mark: datetime) -> datetime | None:
        promoted = await self._store.promote(mark, _BATCH)
        if not promoted:
            return None
        self._dispatcher.wake({(p.lane, p.rank) for p in promoted}, local=True)
        blocked = [task_id for each in promoted for task_id in each.blocked]
        if blocked:
            self.on_blocked(blocked)
        return max(p.last_run_at for p in promoted)
