"""What a producer does later to what it has sent: it cancels, answers approvals, and runs tasks again.

It asks for much that is not to be had: a retry of what lives, an answer that comes too early or twice.
Brokers refuse that, and the verdict looks at what became of it all.
"""

import random
from collections import deque
from collections.abc import Callable
from typing import Final

from hyrex.client.process import current_backend
from hyrex.errors import HyrexError
from hyrex.sent import SentTaskHandle
from hyrex.workflows.handle import WorkflowHandle
from tests.chaos import app

_KEPT: Final = 20
"""So many of a kind are remembered; later ones take the place of earlier ones."""
_TO_RETRY: Final = ("failing", "retrying", "short", "keyed", "together_keyed")


class Afterwards:
    """Remembers what was sent, and does one thing to some of it at a time."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._to_cancel: list[SentTaskHandle] = []
        self._to_retry: deque[SentTaskHandle] = deque(maxlen=_KEPT)
        self._workflows: deque[WorkflowHandle[object]] = deque(maxlen=_KEPT)

    def sent(self, kind: str, handle: SentTaskHandle) -> None:
        """Remember a task of a kind."""
        if kind.endswith("to_cancel"):
            self._to_cancel.append(handle)
        if isinstance(handle, WorkflowHandle):
            self._workflows.append(handle)
        elif kind in _TO_RETRY and self._chance.random() < 0.3:
            self._to_retry.append(handle)

    def act(self) -> None:
        """Do something, or nothing."""
        if self._to_cancel and self._chance.random() < 0.5:
            self._cancel(self._to_cancel.pop())
        if self._to_retry and self._chance.random() < 0.1:
            self._retry(self._to_retry.popleft())
        if self._workflows and self._chance.random() < 0.5:
            self._act_on(self._chance.choice(self._workflows))

    def _act_on(self, workflow: WorkflowHandle[object]) -> None:
        nodes = workflow.nodes
        approvals = [name for name in nodes if name.startswith(app.APPROVAL)]
        (what,) = self._chance.choices(["answer", "retry", "retry a node", "cancel a node"], [12, 3, 3, 1])
        if what == "answer" and approvals:
            self._answer(workflow, self._chance.choice(approvals))
        elif what == "retry":
            self._retry(workflow)
        elif what == "retry a node":
            self._retry(nodes[self._chance.choice(sorted(nodes))])
        elif what == "cancel a node":
            self._asked(lambda: nodes[self._chance.choice(sorted(nodes))].cancel("chaos"))

    def _cancel(self, handle: SentTaskHandle) -> None:
        if self._asked(lambda: handle.cancel("chaos")):
            app.journal().note("cancelled", task=str(handle.id))

    def _retry(self, handle: SentTaskHandle) -> None:
        self._asked(lambda: current_backend().retry(str(handle.id)))

    def _answer(self, workflow: WorkflowHandle[object], name: str) -> None:
        approval = workflow.nodes[name]
        if self._chance.random() < 0.25:
            self._asked(lambda: approval.complete(error="no"))
        else:
            self._asked(lambda: approval.complete(True))

    @staticmethod
    def _asked(ask: Callable[[], object]) -> bool:
        """Return True if it was answered, whatever the answer was."""
        try:
            ask()
        except HyrexError:
            return False
        return True
