"""What the caller of a task's RPC may see and change. A task that it may not see is not there for it."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from enum import IntEnum
from typing import Protocol, TypeVar

from hyrex.v1 import task_pb2
from hyrex_broker.domain.errors import InvalidField, NoSuchTask
from hyrex_broker.domain.model import TaskId
from hyrex_broker.domain.rights import ANYONE, Scope
from hyrex_broker.domain.states import TaskState
from hyrex_broker.domain.views import TaskView
from hyrex_broker.service import convert
from hyrex_broker.service.callers import current_caller
from hyrex_broker.storage.reads import FOUND, Detail

Outcome = TypeVar("Outcome")


class ListedMessages(IntEnum):
    """Which tasks of a list have their messages. Numbers equal those of hyrex.v1.ListedMessages."""

    ALL = 1
    NONE = 2
    ONE_OF_A_KIND = 3


class Looks(Protocol):
    """Counts who has seen what tasks carry."""

    def looked(self, who: str, action: str, task_ids: Sequence[str]) -> None:
        """Note that a caller has seen what these tasks carry."""
        ...


class QueuesOf(Protocol):
    """Reads the queues of tasks."""

    async def queues_of(self, task_ids: Sequence[TaskId]) -> dict[TaskId, str]:
        """Unknown ids are missing. Raises StorageUnavailable."""
        ...


class QueuesOfTrees(QueuesOf, Protocol):
    """Reads also where an act on a root would land, and tasks that are rows in an outbox."""

    async def tasks(self, task_ids: Sequence[TaskId], detail: Detail) -> list[TaskView]:
        """Unknown ids are missing. Raises StorageUnavailable."""
        ...

    async def queues_below(self, task_ids: Sequence[TaskId]) -> dict[TaskId, list[str]]:
        """Of roots of workflows: the queues of their nodes. Raises StorageUnavailable."""
        ...


class TaskRights:
    """Shows tasks as far as the caller of the present call may see them."""

    def __init__(self, reads: QueuesOfTrees, looks: Looks) -> None:
        self._reads = reads
        self._looks = looks

    def sees(self) -> Callable[[str], bool] | None:
        """What tells the queues that the caller may see; None: all."""
        caller = current_caller()
        return None if caller.unlimited else caller.sees

    def check(self, views: Iterable[TaskView]) -> None:
        """Raises NoSuchTask for the first one that the caller may not see."""
        caller = current_caller()
        if not caller.unlimited:
            for view in views:
                if not caller.sees(view.queue):
                    raise NoSuchTask(view.task_id)

    async def check_ids(self, ids: Sequence[TaskId]) -> None:
        """Raises NoSuchTask for the first one that is unknown or that the caller may not see: before anything
        is sent, and for both alike, so that nobody learns which ids others have."""
        caller = current_caller()
        if not caller.unlimited:
            queues = await self._reads.queues_of(ids)
            for each in ids:
                if (queue := queues.get(each)) is None or not caller.sees(queue):
                    raise NoSuchTask(each)

    async def seen(self, ids: Sequence[TaskId]) -> dict[TaskId, TaskView]:
        """Tasks that the caller may see, also those that are rows in an outbox; others are missing."""
        caller, found = current_caller(), await self._reads.tasks(ids, FOUND) if ids else []
        return {view.task_id: view for view in found if caller.sees(view.queue)}

    async def missing(self, ids: Sequence[TaskId]) -> list[TaskId]:
        """Those that are unknown or that the caller may not see."""
        caller, queues = current_caller(), await self._reads.queues_of(ids)
        return [each for each in ids if (queue := queues.get(each)) is None or not caller.sees(queue)]

    def shown(self, view: TaskView, waiting_for: str = "") -> task_pb2.Task:
        """A task for the wire, without what it carries if the caller lacks the scope `payload`."""
        return convert.task(view, waiting_for, hidden=Scope.PAYLOAD not in current_caller().scopes)

    def told(self, wanted: int) -> ListedMessages:
        """Which messages a list has for the caller, who wants these. Raises InvalidField."""
        try:
            told = ListedMessages(wanted or ListedMessages.ALL)
        except ValueError:
            raise InvalidField("messages", wanted, "must be a value of ListedMessages") from None
        return told if Scope.PAYLOAD in current_caller().scopes else ListedMessages.NONE

    def listed(self, views: Sequence[TaskView], told: ListedMessages) -> list[task_pb2.Task]:
        """Tasks for a list; notes those of which the caller is told what they carry."""
        chosen = _chosen(views, told)
        ids = {view.task_id for view in chosen}
        hidden = Scope.PAYLOAD not in current_caller().scopes
        self.note("task.list", chosen)
        return [convert.task(view, hidden=hidden, told=view.task_id in ids) for view in views]

    def note(self, action: str, views: Iterable[TaskView]) -> None:
        """Note that the caller was shown what these tasks carry."""
        caller = current_caller()
        if caller is not ANYONE and Scope.PAYLOAD in caller.scopes:
            self._looks.looked(caller.name, action, [view.task_id for view in views])

    def dismissed(self, ids: Sequence[TaskId]) -> None:
        """Note that the caller dismissed these tasks."""
        caller = current_caller()
        if caller is not ANYONE and ids:
            self._looks.looked(caller.name, "task.dismiss", ids)

    async def changed(
        self,
        ids: Sequence[TaskId],
        change: Callable[[Sequence[TaskId]], Awaitable[list[Outcome]]],
        not_found: Outcome,
    ) -> list[Outcome]:
        """Change those tasks that the caller may change; one outcome for each id. To change a workflow's root
        is to change its nodes, so it takes the right to their queues too (rule 39)."""
        caller = current_caller()
        if caller.unlimited:
            return await change(ids)
        queues = await self._reads.queues_of(ids)
        own = [each for each in ids if (queue := queues.get(each)) is not None and caller.covers(queue)]
        below = await self._reads.queues_below(own) if own else {}
        own = [each for each in own if caller.covers_all(below.get(each, ()))]
        outcomes = dict(zip(own, await change(own), strict=True)) if own else {}
        return [outcomes.get(each, not_found) for each in ids]


def _chosen(views: Sequence[TaskView], told: ListedMessages) -> Sequence[TaskView]:
    """Those that have their messages."""
    match told:
        case ListedMessages.ALL:
            return views
        case ListedMessages.NONE:
            return []
        case ListedMessages.ONE_OF_A_KIND:
            return _one_of_a_kind(views)


def _one_of_a_kind(views: Sequence[TaskView]) -> list[TaskView]:
    """The first of each name, state and type of error."""
    first: dict[tuple[str, TaskState, str | None], TaskView] = {}
    for view in views:
        first.setdefault((view.name, view.state, view.runs[-1].error_type if view.runs else None), view)
    return list(first.values())
