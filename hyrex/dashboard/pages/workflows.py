"""Runs of workflows, newest first, and how far each is."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from hyrex.dashboard.pages.page import Page, Visit
from hyrex.dashboard.render.values import FINAL, moment, query, task_word
from hyrex.transport.errors import CallFailed
from hyrex.transport.node_words import ENDED, by_state, standing, words_of
from hyrex.v1 import task_pb2
from hyrex.v1 import task_service_pb2 as tasks
from hyrex.v1 import workflow_service_pb2 as wire

ROWS: Final = 50
NODES_LOOKED_AT: Final = 10_000
"""At most, of all living workflows of a page together: to count 1,000 nodes takes 8 ms of CPU, each time that
the page is refreshed."""
BAD_STATES: Final = ("failed", "cancelled")
KINDS: Final = {"": (), "living": ("blocked",), "bad": BAD_STATES, "completed": ("completed",)}
"""What may be listed, and the statuses of it."""
LABELS: Final = {"": "All", "living": "Living", "bad": "Failed or cancelled", "completed": "Completed"}


@dataclass(frozen=True, slots=True)
class FlowRow:
    """A run of a workflow. `states`: how many nodes stand where; empty where that was not looked at."""

    root: task_pb2.Task
    word: str
    states: Sequence[tuple[str, int]]

    @property
    def ended(self) -> int:
        """How many nodes have ended."""
        return sum(many for word, many in self.states if word in ENDED)

    @property
    def is_final(self) -> bool:
        """True if it has ended, and with it all of its nodes."""
        return self.root.status in FINAL

    @property
    def took(self) -> timedelta | None:
        """From its sending to its end."""
        sent = moment(self.root, "submitted_at")
        end = moment(self.root.runs[-1], "finished_at") if self.root.runs else None
        return end - sent if sent is not None and end is not None and self.is_final else None


async def workflows(visit: Visit) -> Page:
    """One page of runs of workflows. Raises: CallFailed."""
    kind, token = visit.query.get("kind", ""), visit.query.get("page", "")
    kind = kind if kind in KINDS else ""
    statuses = [task_pb2.TaskStatus.Value(f"TASK_STATUS_{each.upper()}") for each in KINDS[kind]]
    request = tasks.ListTasksRequest(
        page_size=ROWS, page_token=token, filter=tasks.TaskFilter(workflows=True, statuses=statuses)
    )
    listed = await visit.calls.read("tasks", "ListTasks", request)
    after = listed.next_page_token
    values = {
        "rows": await _rows(visit, listed.tasks),
        "kind": kind,
        "kinds": LABELS,
        "first": not token,
        "next": "/workflows" + query(kind=kind, page=after) if after else "",
    }
    return Page(
        "workflows.html", "Workflows", "workflows", values, "/workflows" + query(kind=kind, page=token)
    )


async def _rows(visit: Visit, roots: Sequence[task_pb2.Task]) -> list[FlowRow]:
    looked, left = list[task_pb2.Task](), NODES_LOOKED_AT
    for root in roots:
        if root.status not in FINAL and root.workflow_nodes <= left:
            looked.append(root)
            left -= root.workflow_nodes
    found = await asyncio.gather(*(_look(visit, root.task_id) for root in looked))
    known = dict(zip((root.task_id for root in looked), found, strict=True))
    return [known.get(root.task_id) or _unlooked(root) for root in roots]


async def _look(visit: Visit, task_id: str) -> FlowRow | None:
    """A workflow and how far it is; None where it cannot be looked at now."""
    request = wire.GetWorkflowRequest(task_id=task_id, nodes=wire.SHOWN_NODES_NONE)
    with suppress(CallFailed):
        found = await visit.cluster.kept(visit.token, "workflows", "GetWorkflow", request)
        words = words_of(found.counts)
        return FlowRow(found.root, standing(found.root, words), by_state(words))
    return None


def _unlooked(root: task_pb2.Task) -> FlowRow:
    done = root.status == task_pb2.TASK_STATUS_COMPLETED
    return FlowRow(root, task_word(root.status), [("completed", root.workflow_nodes)] if done else [])
