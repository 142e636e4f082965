"""What a scenario's steps do. `do` names an agent's op (AGENT.md) or one of the driver's own (DRIVER_OPS)."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import grpc.aio

from tests.conformance.matching import differences, filled, found
from tests.conformance.stage import Stage

Step = Mapping[str, Any]
PATIENCE_S: Final = 10.0
ANSWER_WITHIN_S: Final = 30.0
LOOK_AGAIN_S: Final = 0.05
AGENT_OPS: Final = frozenset(
    {"submit", "get", "list", "wait", "cancel", "retry", "replay", "dismiss",
     "complete", "submit_workflow", "get_workflow",
     "schedule_put", "schedule_get", "schedule_pause", "schedule_trigger", "schedule_delete",
     "worker_start", "worker_stats", "worker_drain", "worker_stop"}
)  # fmt: skip


class Unexpected(Exception):
    """A step did not go as the scenario says."""


class NotOffered(Exception):
    """The agent does not know an op: the scenario is skipped."""


async def play(stage: Stage, step: Step) -> None:
    """Carry out one step. Raises: Unexpected, NotOffered, AgentFailed."""
    op = step["do"]
    if op in AGENT_OPS:
        await _ask(stage, step)
    elif op in DRIVER_OPS:
        await DRIVER_OPS[op](stage, step)
    else:
        raise Unexpected(f"there is no step {op!r}")


async def _ask(stage: Stage, step: Step) -> None:
    """Send a command to an agent and look at the answer, again and again if the step says `within_ms`."""
    agent = await stage.agent(step.get("agent", "main"))
    deadline = time.monotonic() + step.get("within_ms", 0) / 1000
    while True:
        fields = _fields(stage, step)
        timeout_s = ANSWER_WITHIN_S + fields.get("timeout_ms", 0) / 1000
        answer, _ = await asyncio.gather(agent.call(step["do"], timeout_s, **fields), _meanwhile(stage, step))
        wrong = _wrong(stage, step, answer)
        if not wrong:
            break
        if time.monotonic() >= deadline:
            raise Unexpected(f"{step['do']}: {'; '.join(wrong)}{agent.tail}")
        await asyncio.sleep(LOOK_AGAIN_S)
    for name, path in step.get("save", {}).items():
        stage.variables[name] = found(answer["ok"], path)


async def _meanwhile(stage: Stage, step: Step) -> None:
    for other in step.get("meanwhile", ()):
        await play(stage, other)


def _fields(stage: Stage, step: Step) -> dict[str, Any]:
    fields: dict[str, Any] = filled(step.get("with", {}), stage.variables)
    queue = stage.variables["queue"]
    if step["do"] == "submit":
        fields["tasks"] = [{"queue": queue} | task for task in fields["tasks"]]
    if step["do"] == "submit_workflow":
        fields["root"] = {"queue": queue} | fields["root"]
        fields["nodes"] = [node | {"task": {"queue": queue} | node["task"]} for node in fields["nodes"]]
    if step["do"] == "schedule_put":
        fields["task"] = {"queue": queue} | fields["task"]
    if step["do"] == "worker_start":
        name = f"{queue}-{step.get('agent', 'main')}"
        fields = {"name": name, "queues": [queue], "capacity": 10} | fields
    return fields


def _wrong(stage: Stage, step: Step, answer: dict[str, Any]) -> list[str]:
    error = answer.get("error")
    if error is not None and error.get("reason") == "UNKNOWN_OP":
        raise NotOffered(f"the agent does not offer this: {error.get('message', step['do'])}")
    if "error" in step:
        if error is None:
            return [f"should fail with {step['error']}, was answered {str(answer)[:300]}"]
        return differences(filled(step["error"], stage.variables), error, "error")
    if error is not None:
        return [f"failed: {error}"]
    if "ok" not in answer:
        return [f"an answer without ok and error: {str(answer)[:300]}"]
    return differences(filled(step.get("expect", {}), stage.variables), answer["ok"])


async def _until(step: Step, look: Callable[[], Awaitable[list[str]]]) -> None:
    deadline = time.monotonic() + step.get("within_ms", PATIENCE_S * 1000) / 1000
    while wrong := await look():
        if time.monotonic() >= deadline:
            raise Unexpected(f"{step['do']}: {'; '.join(wrong[:10])}")
        await asyncio.sleep(LOOK_AGAIN_S)


async def _recorded(stage: Stage, step: Step) -> None:
    """What the broker recorded of one task or of each of some, in the end."""
    named = filled(step["task"], stage.variables)
    expected = filled(step["expect"], stage.variables)
    remaining = list(named) if isinstance(named, list) else [named]

    async def look() -> list[str]:
        while remaining:
            try:
                wrong = differences(expected, await stage.recorded(remaining[0]), "task")
            except grpc.aio.AioRpcError as error:
                return [f"{error.code().name}: {error.details()}"]
            if wrong:
                return wrong
            remaining.pop(0)
        return []

    await _until(step, look)


async def _wire(stage: Stage, step: Step) -> None:
    """What was seen on the wire of an agent."""
    door = await stage.door(step.get("agent", "main"))

    async def look() -> list[str]:
        return differences(filled(step["expect"], stage.variables), door.tap.rules.summary(), "wire")

    await _until(step, look)


def _door(act: Callable[[Any, Step], None]) -> Callable[[Stage, Step], Awaitable[None]]:
    async def step_of(stage: Stage, step: Step) -> None:
        act(await stage.door(step.get("agent", "main")), step)

    return step_of


async def _hold(stage: Stage, step: Step) -> None:
    """Let time pass that is the scenario's matter: nothing that can be seen would end the wait."""
    await asyncio.sleep(step["ms"] / 1000)


async def _switch(stage: Stage, step: Step) -> None:
    """The proxy leads to another broker from the next call on."""
    door = await stage.door(step.get("agent", "main"))
    door.tap.upstream = stage.brokers[step["to"]].address


async def _terminate(stage: Stage, step: Step) -> None:
    """SIGTERM to a broker: it drains. Waits for its end where the step says so."""
    process = stage.brokers[step["broker"]].process
    process.signal(signal.SIGTERM)
    if step.get("wait", True):
        await asyncio.to_thread(process.wait, 30.0)


async def _kill_broker(stage: Stage, step: Step) -> None:
    await asyncio.to_thread(stage.brokers[step["broker"]].process.kill)


async def _kill_agent(stage: Stage, step: Step) -> None:
    await stage.agents.pop(step.get("agent", "main")).end()


async def _drain_worker(stage: Stage, step: Step) -> None:
    await stage.drain_worker(filled(step["session"], stage.variables))


async def _max_waiting(stage: Stage, step: Step) -> None:
    """How many tasks may wait in the scenario's queue."""
    await stage.limit_waiting(stage.variables["queue"], step["most"])


async def _set_token(stage: Stage, step: Step) -> None:
    """The token of an agent that is not started yet."""
    stage.own_token[step.get("agent", "main")] = step["token"]


async def _make_token(stage: Stage, step: Step) -> None:
    """A token of its own for an agent that is not started yet."""
    agent = step["agent"]
    stage.own_token[agent] = await stage.make_token(
        agent, step["scopes"], filled(step["queues"], stage.variables)
    )


def _answer(door: Any, step: Step) -> None:
    reason, metadata = step.get("reason", ""), step.get("metadata", {})
    door.tap.answer_next(step["method"], step["code"], reason, metadata, step.get("until_told", False))


def _freeze(door: Any, _: Step) -> None:
    door.tap.rules.timely = False  # heartbeats that the silent network held back are nobody's fault
    door.gate.freeze()


DRIVER_OPS: Final[dict[str, Callable[[Stage, Step], Awaitable[None]]]] = {
    "recorded": _recorded,
    "hold": _hold,
    "wire": _wire,
    "cut": _door(lambda door, _: door.gate.cut()),
    "heal": _door(lambda door, _: door.gate.heal()),
    "freeze": _door(_freeze),
    "answer_next": _door(_answer),
    "switch": _switch,
    "terminate_broker": _terminate,
    "kill_broker": _kill_broker,
    "kill_agent": _kill_agent,
    "drain_worker": _drain_worker,
    "max_waiting": _max_waiting,
    "set_token": _set_token,
    "make_token": _make_token,
}
