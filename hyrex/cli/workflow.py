"""`hyrex workflow`: runs of workflows, how far they are, and how each node stands."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from hyrex.cli.cells import url_for_task
from hyrex.cli.connection import DEFAULT_URL, AsJson, BrokerUrl, CellsUrl, ask
from hyrex.cli.errors import CommandError
from hyrex.cli.output import duration, print_json, print_list, print_table, printable, say, shown
from hyrex.cli.task import error_text

if TYPE_CHECKING:
    import grpc.aio

    from hyrex.v1 import task_pb2
    from hyrex.v1 import workflow_service_pb2 as wire

commands = typer.Typer(help="Runs of workflows: look at them, cancel and retry them.", no_args_is_help=True)
WorkflowId = Annotated[str, typer.Argument(metavar="ID", help="The id of the run, or of a node of it.")]
_CALL_S: Final = 60.0
_NODES_LOOKED_AT: Final = 30_000
"""At most, of all living runs of a list together: counting 1,000 takes 8 ms of CPU."""
_INDENTED: Final = 60
"""In larger graphs nodes are not indented by their depth: nobody reads it from so many lines."""
_NAMED: Final = 5
"""How many of the nodes that one waits for are named."""
STATES: Final = {"living": ("blocked",), "bad": ("failed", "cancelled"), "completed": ("completed",)}


@commands.command("list")
def list_workflows(
    name: Annotated[str, typer.Option(help="Only runs of this workflow.")] = "",
    state: Annotated[str, typer.Option(help=f"Only these: {', '.join(STATES)}.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 20,
    page: Annotated[str, typer.Option(metavar="TOKEN", help="The page after one printed before.")] = "",
    broker_url: BrokerUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """List runs of workflows, newest first, with how many of their nodes have ended."""
    from hyrex.v1 import task_pb2
    from hyrex.v1 import task_service_pb2 as pb

    if state and state not in STATES:
        raise CommandError(f"no state {state!r}; there are: {', '.join(STATES)}", status=2)
    statuses = [task_pb2.TaskStatus.Value(f"TASK_STATUS_{each.upper()}") for each in STATES.get(state, ())]
    request = pb.ListTasksRequest(
        page_size=limit,
        page_token=page,
        name=name,
        filter=pb.TaskFilter(workflows=True, statuses=statuses),
    )
    answer, found = ask(broker_url, lambda channel: _listed(channel, request), _CALL_S)
    rows = [_root_values(root, found.get(root.task_id)) for root in answer.tasks]
    if as_json:
        print_list("workflows", rows, answer.next_page_token)
        return
    columns = ("id", "name", "queue", "state", "ended", "took", "submitted", "error")
    cells = [
        (
            *[each[column] for column in columns[:4]],
            _progress(each),
            duration(each["took_seconds"]),
            each["submitted"],
            each["error"],
        )
        for each in rows
    ]
    print_table(columns, cells, "no workflows")
    if answer.next_page_token:
        say(f"more: --page {answer.next_page_token}")


@commands.command("get")
def get(workflow_id: WorkflowId, broker_url: CellsUrl = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Show how far a run is, and its graph: each node with its state, and what it waits for."""
    from hyrex.v1 import workflow_service_pb2 as wire

    values = _workflow_values(_found(workflow_id, broker_url, wire.SHOWN_NODES_ALL))
    if as_json:
        print_json(values)
    else:
        _print(values)


@commands.command("cancel")
def cancel(
    workflow_id: WorkflowId,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    broker_url: CellsUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Cancel all nodes that have not ended. Exit status 1 if the run had ended before."""
    from hyrex.v1 import task_service_pb2 as pb

    request = pb.CancelTasksRequest(task_ids=[_root_of(workflow_id, broker_url)[0]], reason=reason)
    _act(broker_url, "Cancel", request, as_json)


@commands.command("retry")
def retry(workflow_id: WorkflowId, broker_url: CellsUrl = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Run again what ended badly or was skipped; what completed keeps its result.

    Exit status 1 if the run has not ended, or completed.
    """
    from hyrex.v1 import task_service_pb2 as pb

    root_id, state = _root_of(workflow_id, broker_url)
    if state == "completed":
        raise CommandError(f"workflow {root_id} has completed: nothing in it is to be run again")
    _act(broker_url, "Retry", pb.RetryTasksRequest(task_ids=[root_id]), as_json)


async def _listed(channel: "grpc.aio.Channel", request: Any) -> tuple[Any, dict[str, Any]]:
    """A page of roots, and how far the living ones are, unless they have too many nodes together."""
    from hyrex.transport.node_words import ENDED, node_word
    from hyrex.v1 import task_service_pb2_grpc
    from hyrex.v1 import workflow_service_pb2 as wire
    from hyrex.v1.workflow_service_pb2_grpc import WorkflowServiceStub

    answer = await task_service_pb2_grpc.TaskServiceStub(channel).ListTasks(request)
    looked, left = list[str](), _NODES_LOOKED_AT
    for root in answer.tasks:
        if node_word(root) not in ENDED and root.workflow_nodes <= left:
            looked.append(root.task_id)
            left -= root.workflow_nodes
    stub, few_at_once = WorkflowServiceStub(channel), asyncio.Semaphore(4)

    async def look(task_id: str) -> Any:
        async with few_at_once:
            return await stub.GetWorkflow(
                wire.GetWorkflowRequest(task_id=task_id, nodes=wire.SHOWN_NODES_NONE)
            )

    found = await asyncio.gather(*map(look, looked))
    return answer, dict(zip(looked, found, strict=True))


def _found(workflow_id: str, broker_url: str, nodes: "wire.ShownNodes.ValueType") -> Any:
    """A run with its nodes or without. Raises: CommandError."""
    from hyrex.v1 import workflow_service_pb2 as wire
    from hyrex.v1.workflow_service_pb2_grpc import WorkflowServiceStub

    async def call(channel: "grpc.aio.Channel") -> Any:
        request = wire.GetWorkflowRequest(task_id=workflow_id, nodes=nodes)
        return await WorkflowServiceStub(channel).GetWorkflow(request)

    return ask(url_for_task(broker_url, workflow_id), call, _CALL_S)


def _root_of(workflow_id: str, broker_url: str) -> tuple[str, str]:
    """The id of a run, and how its root stands. Raises: CommandError, also where it is a plain task."""
    from hyrex.transport.node_words import node_word
    from hyrex.v1 import workflow_service_pb2 as wire

    found = _found(workflow_id, broker_url, wire.SHOWN_NODES_NONE)
    return found.root_id, node_word(found.root)


def _act(broker_url: str, verb: str, request: Any, as_json: bool) -> None:
    from hyrex.cli.wire import word
    from hyrex.v1 import task_service_pb2, task_service_pb2_grpc

    root_id = request.task_ids[0]

    async def call(channel: "grpc.aio.Channel") -> Any:
        return await getattr(task_service_pb2_grpc.TaskServiceStub(channel), f"{verb}Tasks")(request)

    (result,) = ask(url_for_task(broker_url, root_id), call, _CALL_S).results
    outcome = word(getattr(task_service_pb2, f"{verb}Outcome"), result.outcome)
    if as_json:
        print_json({"id": root_id, "outcome": outcome})
    else:
        say(f"workflow {root_id}: {outcome}")
    if outcome not in ("cancelled", "requested", "requeued"):
        raise typer.Exit(1)


def _root_values(root: "task_pb2.Task", found: Any) -> dict[str, Any]:
    """A run in a list. `ended` is None where its nodes were not looked at."""
    from hyrex.cli.wire import moment
    from hyrex.cli.wire_tasks import run_values
    from hyrex.transport.node_words import ENDED, ended_of, standing, words_of

    words = words_of(found.counts) if found is not None else Counter[str]()
    state = standing(root, words)
    last = run_values(root.runs[-1]) if root.runs else None
    sent, end = moment(root, "submitted_at"), last["finished"] if last and state in ENDED else None
    ended = ended_of(words) if found is not None else root.workflow_nodes if state in ENDED else None
    return {
        "id": root.task_id,
        "name": root.name,
        "queue": root.queue,
        "state": state,
        "nodes": root.workflow_nodes,
        "ended": ended,
        "submitted": sent,
        "finished": end,
        "took_seconds": (end - sent).total_seconds() if end and sent else None,
        "error": error_text(last) if last else "",
    }


def _workflow_values(found: Any) -> dict[str, Any]:
    """A run with its nodes."""
    from hyrex.transport.node_words import by_state, ended_of, words_of

    nodes, words = [_node_values(each) for each in found.nodes], words_of(found.counts)
    depths: list[int] = []
    for each, node in zip(found.nodes, nodes, strict=True):
        depths.append(max((depths[edge.node] + 1 for edge in each.upstreams), default=0))
        node["depth"] = depths[-1]
        node["after"] = [
            {
                "node": found.nodes[edge.node].name,
                "parameter": edge.parameter or None,
                "anyway": edge.runs_anyway,
            }
            for edge in each.upstreams
        ]
    own = _root_values(found.root, found)
    # The root may be in a queue that the token is not for.
    own |= {"id": found.root_id, "nodes": len(nodes), "ended": ended_of(words)}
    return own | {"fail_fast": found.fail_fast, "states": dict(by_state(words)), "graph": nodes}


def _node_values(node: Any) -> dict[str, Any]:
    from hyrex.cli.wire import moment
    from hyrex.cli.wire_tasks import run_values
    from hyrex.transport.node_words import ENDED, node_word

    task, state = node.task, node_word(node.task)
    last = run_values(task.runs[-1]) if task.runs else None
    return {
        "node": node.name,
        "id": task.task_id or None,
        "task": task.name or None,
        "queue": task.queue or None,
        "state": state,
        "approval": node.approval,
        # What ended it without having begun, as a skip, is no run.
        "runs": last["run_number"] + (last["started"] is not None) if last else 0,
        "started": last["started"] if last else None,
        "finished": last["finished"] if last and state in ENDED else None,
        "took_seconds": last["duration_seconds"] if last else None,
        "runs_at": moment(task, "run_at"),
        "error": (error_text(last) or None) if last else None,
    }


def _progress(run: dict[str, Any]) -> str:
    ended = "?" if run["ended"] is None else run["ended"]
    return f"{ended} of {run['nodes']}"


def _print(run: dict[str, Any]) -> None:
    name = printable(run["name"]) or "(a workflow of a queue that the token is not for)"
    typer.echo(f"{name} {run['id']}  {typer.style(run['state'], bold=True)}")
    states = ", ".join(f"{count} {word.replace('_', ' ')}" for word, count in run["states"].items())
    say(f"{_progress(run)} nodes ended: {states}")
    facts = {
        "queue": run["queue"] or None,
        "submitted": shown(run["submitted"]) or None,
        "took": duration(run["took_seconds"]) or None,
        "fail_fast": "yes" if run["fail_fast"] else None,
    }
    say("  ".join(f"{what} {value}" for what, value in facts.items() if value is not None))
    if run["error"]:
        say(f"error: {run['error']}")
    indent = len(run["graph"]) <= _INDENTED
    rows = [
        (
            "  " * (node["depth"] if indent else 0) + node["node"],
            node["state"].replace("_", " "),
            node["runs"],
            duration(node["took_seconds"]),
            _after(node["after"]),
            node["id"] or "",
            node["error"] or ("waits for an answer" if _is_asked(node) else ""),
        )
        for node in run["graph"]
    ]
    print_table(("node", "state", "runs", "took", "after", "id", "error"), rows, "no nodes")


def _is_asked(node: dict[str, Any]) -> bool:
    return bool(node["approval"]) and node["state"] == "blocked"


def _after(edges: Sequence[dict[str, Any]]) -> str:
    """For which nodes one waits; with a ~ before those after which it runs however they end."""
    named = [("~" if edge["anyway"] else "") + edge["node"] for edge in edges[:_NAMED]]
    more = [f"and {len(edges) - _NAMED} more"] if len(edges) > _NAMED else []
    return ", ".join([*named, *more])
