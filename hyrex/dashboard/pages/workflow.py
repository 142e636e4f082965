"""A run of a workflow: its graph, when its nodes waited and ran, and one node beside them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from markupsafe import Markup

from hyrex.dashboard.graph.drawing import Addresses, Box, boxes_of, drawn_graph
from hyrex.dashboard.graph.nodes import ShownNode, graph_of, nodes_of
from hyrex.dashboard.graph.places import Layout, layout_of
from hyrex.dashboard.graph.waterfall import waterfall_of
from hyrex.dashboard.pages.action import Action, Done, Field, Form, Question, reason_of
from hyrex.dashboard.pages.machines import valid_id
from hyrex.dashboard.pages.page import Missing, Page, Visit
from hyrex.dashboard.pages.task import why_it_waits
from hyrex.dashboard.render.values import BAD, FINAL, query
from hyrex.transport.node_words import BAD_ENDS, WORST_FIRST, by_state, ended_of, standing, words_of
from hyrex.v1 import admin_service_pb2 as admin
from hyrex.v1 import task_pb2
from hyrex.v1 import task_service_pb2 as tasks
from hyrex.v1 import workflow_service_pb2 as wire

SENT_AT_MOST: Final = 1000
LISTED_IN_A_BOX: Final = 100


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is beside the graph: a box of several nodes, or the task of one node."""

    box: Box
    node: ShownNode | None = None
    task: task_pb2.Task | None = None
    why: admin.WhyResponse | None = None

    @property
    def listed(self) -> list[ShownNode]:
        """Nodes of a box, the bad ones first, up to a number."""
        ordered = sorted(self.box.nodes, key=lambda node: WORST_FIRST.index(node.word))
        return ordered[:LISTED_IN_A_BOX]


async def workflow(visit: Visit) -> Page:
    """A run of a workflow, by the id of its root or of a node. Raises: Missing, CallFailed."""
    wanted = valid_id(visit.wanted("id"))
    found = await visit.calls.read("workflows", "GetWorkflow", wire.GetWorkflowRequest(task_id=wanted))
    layout, nodes = layout_of(graph_of(found)), nodes_of(found)
    boxes = boxes_of(layout, nodes, await _sent(visit, found, nodes))
    chosen = await _chosen(visit, boxes, wanted)
    opened = chosen.box.place if chosen is not None else None
    words = words_of(found.counts)
    here = {"id": found.root.task_id or wanted, **_choice(chosen)}
    values = {
        "root": found.root,
        "word": standing(found.root, words),
        "fail_fast": found.fail_fast,
        "final": found.root.status in FINAL,
        "bad": found.root.status in BAD or found.root.status == task_pb2.TASK_STATUS_CANCELLED,
        "hidden_root": not found.root.task_id,
        "workflow_id": here["id"],
        "count": len(nodes),
        "states": by_state(words),
        "ended": ended_of(words),
        "picture": _picture(layout, boxes, opened, here["id"]),
        "dashed": any(layout.folded.lines.values()),
        "left_out": layout.folded.left_out,
        "waterfall": waterfall_of(boxes, opened),
        "chosen": chosen,
        "upstreams": _upstreams(found, nodes, chosen),
        "last_error": _last_error(found.root),
    }
    title = found.root.name or "Workflow"
    return Page("workflow.html", title, "workflows", values, live="/workflow" + query(**here))


def _picture(layout: Layout, boxes: Sequence[Box], opened: int | None, root_id: str) -> object:
    """Draws the graph, given where signs are and what comes before every address."""

    def draw(icons: str, base: str) -> Markup:
        def of_node(node: ShownNode) -> str:
            return f"{base}/workflow{query(id=root_id, node=node.task.task_id)}#node"

        def of_box(place: int) -> str:
            return f"{base}/workflow{query(id=root_id, box=place)}#node"

        return drawn_graph(layout, boxes, opened, Addresses(icons, of_node, of_box))

    return draw


async def _sent(
    visit: Visit, found: wire.GetWorkflowResponse, nodes: Sequence[ShownNode]
) -> Mapping[str, int]:
    """How many tasks the runs of each node have sent, those of these included, as far as it is known soon."""
    root = found.root.task_id
    if not root:
        return {}
    request = tasks.ListTasksRequest(
        page_size=SENT_AT_MOST, root_id=root, messages=tasks.LISTED_MESSAGES_NONE
    )
    listed = await visit.cluster.soon(visit.token, "tasks", "ListTasks", request)
    if listed is None:
        return {}
    own = {node.task.task_id for node in nodes}
    parents = {each.task_id: each.parent_id for each in listed.tasks if each.task_id not in own}
    counts: Counter[str] = Counter()
    for task_id in parents:
        at, steps = task_id, 0
        while at in parents and steps <= len(parents):
            at, steps = parents[at], steps + 1
        counts[at] += 1
    return counts


async def _chosen(visit: Visit, boxes: Sequence[Box], wanted: str) -> Chosen | None:
    """What the address asks to be shown beside the graph. Raises: Missing, CallFailed."""
    box = visit.query.get("box", "")
    if box:
        if not (box.isascii() and box.isdecimal() and len(box) < 6 and int(box) < len(boxes)):
            raise Missing("the workflow has no such box")
        return Chosen(boxes[int(box)])
    node_id = visit.query.get("node", "")
    node_id = valid_id(node_id) if node_id else wanted
    for each in boxes:
        for node in each.nodes:
            if node.task.task_id == node_id:
                response = await visit.calls.read("tasks", "GetTask", tasks.GetTaskRequest(task_id=node_id))
                return Chosen(each, node, response.task, await why_it_waits(visit, response.task))
    if visit.query.get("node"):
        raise Missing("the workflow has no such node")
    return None


def _choice(chosen: Chosen | None) -> dict[str, str]:
    if chosen is None:
        return {}
    return {"node": chosen.task.task_id} if chosen.task is not None else {"box": str(chosen.box.place)}


def _upstreams(
    found: wire.GetWorkflowResponse, nodes: Sequence[ShownNode], chosen: Chosen | None
) -> list[tuple[ShownNode, wire.Upstream]]:
    """For which nodes the chosen one waits or waited."""
    if chosen is None or chosen.node is None:
        return []
    edges = found.nodes[chosen.node.place].upstreams
    return [(nodes[edge.node], edge) for edge in edges[:LISTED_IN_A_BOX]]


def _last_error(task: task_pb2.Task) -> task_pb2.TaskRun | None:
    return next((run for run in reversed(task.runs) if run.HasField("error")), None)


async def _ask_retry(visit: Visit) -> Question:
    root = valid_id(visit.wanted("id"))
    request = wire.GetWorkflowRequest(task_id=root, nodes=wire.SHOWN_NODES_NONE)
    words = words_of((await visit.calls.read("workflows", "GetWorkflow", request)).counts)
    again = sum(words[each] for each in BAD_ENDS)
    sentence = (
        f"{again} of its nodes did not complete. They run again as soon as those before them have completed;"
        " what completed keeps its result."
    )
    return Question("Retry from what failed?", sentence, "Retry", _back(root))


async def _retry(visit: Visit, form: Form) -> Done:
    root = valid_id(visit.wanted("id"))
    answer = await visit.calls.act("tasks", "RetryTasks", tasks.RetryTasksRequest(task_ids=[root]))
    match answer.results[0].outcome:
        case tasks.RETRY_OUTCOME_REQUEUED:
            return Done("It goes on from what had not completed.", _back(root))
        case tasks.RETRY_OUTCOME_NOT_FINAL:
            return Done("It has not ended, or nothing in it is to be run again.", _back(root), bad=True)
        case _:
            return Done("Nothing was retried.", _back(root), bad=True)


async def _ask_cancel(visit: Visit) -> Question:
    sentence = "Nodes that wait end at once; those that run are told to stop. Results are kept."
    field = Field("reason", "Why", hint="for the record; may be empty")
    back = _back(valid_id(visit.wanted("id")))
    return Question("Cancel this workflow?", sentence, "Cancel", back, True, "", (field,))


async def _cancel(visit: Visit, form: Form) -> Done:
    root = valid_id(visit.wanted("id"))
    request = tasks.CancelTasksRequest(task_ids=[root], reason=reason_of(form))
    answer = await visit.calls.act("tasks", "CancelTasks", request)
    match answer.results[0].outcome:
        case tasks.CANCEL_OUTCOME_CANCELLED | tasks.CANCEL_OUTCOME_REQUESTED:
            return Done("It is being cancelled.", _back(root))
        case _:
            return Done("It had ended already.", _back(root), bad=True)


def _back(root: str) -> str:
    return "/workflow" + query(id=root)


WORKFLOW_ACTIONS: Final = MappingProxyType(
    {
        "/workflow/retry": Action(_ask_retry, _retry, admin.TOKEN_SCOPE_SUBMIT),
        "/workflow/cancel": Action(_ask_cancel, _cancel, admin.TOKEN_SCOPE_SUBMIT),
    }
)
