"""`python -m broker` without direct hand-off: every task is stored as ready, then assigned."""

import sys
from collections.abc import Mapping, Sequence

from broker.__main__ import main
from broker.domain.model import TaskId
from broker.engine.handoff import Handoff
from broker.storage.submit import Entry


async def _hands_nothing_off(self: Handoff, entries: Sequence[Entry]) -> Mapping[TaskId, bool] | None:
    return None


if __name__ == "__main__":
    Handoff.submit = _hands_nothing_off  # type: ignore[method-assign]
    sys.exit(main())
