"""The tasks of the chaos run: short, long, failing, retrying, limited, keyed, rated, fair, asynchronous; and
workflows of them with approvals."""

import asyncio
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, Final

from hyrex import HyrexApp, HyrexQueue, HyrexRegistry, KeyBusy, SubmitUnknown, get_hyrex_context
from hyrex.errors import BrokerUnavailable
from hyrex.sent import SentTaskHandle
from hyrex.workflows.node import WorkflowNode
from tests.chaos.journal import Journal
from tests.chaos.workflows import shape

TASK_LIMIT: Final = 3
QUEUE_LIMIT: Final = 2
MOST_BY_KEY: Final = 3
RATE_PER_S: Final = 4
BURST: Final = 2
APPROVAL: Final = "answered"
"""The name of approvals, with which the names of nodes begin."""
_ANSWER_WITHIN_S: Final = 4.0
FAILURES: Final = 2
_SEND_FOR_S: Final = 30.0

narrow_queue = HyrexQueue("narrow", concurrency_limit=QUEUE_LIMIT)
trickle_queue = HyrexQueue("trickle", rate=f"{RATE_PER_S}/s", burst=BURST)
hy = HyrexRegistry()
app = HyrexApp("chaos")


@cache
def journal() -> Journal:
    """Opened at the first use, in the process that uses it."""
    return Journal.of_environment()


class Planned(Exception):
    """A failure that is part of the plan."""


@contextmanager
def execution(key: str = "") -> Iterator[int]:
    """Write down that this run began, and how its code ended, if it did; gives the attempt number."""
    context = get_hyrex_context()
    assert context is not None
    task, run = str(context.task_id), context.run_number
    name, worker = context.task_name, context.worker
    journal().note("start", task=task, name=name, run=run, pid=os.getpid(), worker=worker, key=key)
    how = "stopped"
    try:
        yield context.attempt_number
        how = "completed"
    except Planned:
        how = "failed"
        raise
    finally:
        journal().note("end", task=task, run=run, how=how, pid=os.getpid())


@hy.task(max_retries=5, retry_backoff=0.2)
def short(number: int) -> int:
    """Returns its argument."""
    with execution():
        return number


@hy.task(max_retries=5, retry_backoff=0.2)
def long(seconds: float) -> float:
    """Works for a while, in steps that an exception can enter."""
    with execution():
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.02)
        return seconds


@hy.task(max_retries=5, retry_backoff=0.2)
async def waiting(seconds: float) -> float:
    """Waits beside others in one process."""
    with execution():
        await asyncio.sleep(seconds)
        return seconds


@hy.task(max_retries=FAILURES, retry_backoff=0.2)
def failing() -> None:
    """Fails each time."""
    with execution():
        raise Planned("as planned")


@hy.task(max_retries=FAILURES + 1, retry_backoff=0.2)
def retrying() -> str:
    """Fails at first."""
    with execution() as attempt:
        if attempt < FAILURES:
            raise Planned(f"attempt {attempt}")
        return "at last"


@hy.task(max_retries=5, retry_backoff=0.2, cron="* * * * *")
def minutely() -> None:
    """One for each minute, and no more."""
    with execution():
        pass


@hy.task(max_retries=5, retry_backoff=0.2)
def parent(children: int) -> int:
    """Sends tasks of its own."""
    with execution():
        for number in range(children):
            send_surely("short", partial(short.send, number))
        return children


def send_surely(kind: str, send: Callable[[], SentTaskHandle], **noted: Any) -> SentTaskHandle | None:
    """Send until it is acknowledged or refused, which is written down; None if it was refused, or no broker
    was there in all the time."""
    until = time.monotonic() + _SEND_FOR_S
    attempt: Callable[[], SentTaskHandle] = send
    unknown_id = ""
    while time.monotonic() < until:
        try:
            handle = attempt()
        except SubmitUnknown as unknown:
            attempt = partial(_sent_again, unknown.handle)
            unknown_id = str(unknown.handle.id)
        except KeyBusy as busy:
            journal().note("refused", task=unknown_id, key=busy.key, holder=str(busy.holder or ""))
            return None
        except BrokerUnavailable:
            time.sleep(0.1)
        else:
            journal().note("acknowledged", task=str(handle.id), kind=kind, **noted)
            return handle
    return None


def _sent_again(handle: SentTaskHandle) -> SentTaskHandle:
    handle.resend()
    return handle


@hy.task(max_concurrency=TASK_LIMIT, max_retries=5, retry_backoff=0.2)
def limited(seconds: float) -> None:
    """Never more than TASK_LIMIT at once."""
    with execution():
        time.sleep(seconds)


@hy.task(queue=narrow_queue, max_retries=5, retry_backoff=0.2)
def narrow(seconds: float) -> None:
    """Never more than QUEUE_LIMIT at once."""
    with execution():
        time.sleep(seconds)


@hy.task(max_retries=5, retry_backoff=0.2, concurrency_key=lambda key, seconds, failures: key)
def one_by_one(key: str, seconds: float, failures: int) -> None:
    """Never two of a key at once. Fails at first."""
    with execution(key) as attempt:
        _fail_or_work(attempt, seconds, failures)


@hy.task(
    max_retries=5,
    retry_backoff=0.2,
    concurrency_key=lambda key, seconds, failures: key,
    fair_key=lambda key, seconds, failures: key,
    max_per_key=MOST_BY_KEY,
)
def some_at_once(key: str, seconds: float, failures: int) -> None:
    """Never more than MOST_BY_KEY of a key at once. Fails at first."""
    with execution(key) as attempt:
        _fail_or_work(attempt, seconds, failures)


@hy.task(max_retries=5, retry_backoff=0.2, fair_key=lambda tenant, seconds, failures: tenant)
def shared(tenant: str, seconds: float, failures: int) -> None:
    """Its tenants share the workers. Fails at first."""
    with execution() as attempt:
        _fail_or_work(attempt, seconds, failures)


@hy.task(max_retries=1, retry_backoff=0.2)
def step(number: int, failures: int) -> int:
    """A node of a workflow. Fails at first."""
    with execution() as attempt:
        _fail_or_work(attempt, 0.01, failures)
        return number


answered = hy.approval(APPROVAL, expires_in=_ANSWER_WITHIN_S)


def _shape(seed: int) -> None:
    chance = random.Random(seed)
    nodes: list[WorkflowNode[Any]] = []
    for place, others in enumerate(shape(seed)):
        node: WorkflowNode[Any] = (
            answered.node(place)
            if chance.random() < 0.15
            else step.node(place, chance.choice([0, 0, 0, 0, 1, 2]))
        )
        for other, runs_anyway in others:
            node.after(nodes[other], runs_anyway=runs_anyway)
        nodes.append(node)


@hy.workflow
def shaped(seed: int) -> None:
    """Nodes that wait for one another as the seed says; what does not wait for a bad end goes on."""
    _shape(seed)


@hy.workflow(fail_fast=True)
def shaped_fast(seed: int) -> None:
    """The same; the first bad end cancels the others."""
    _shape(seed)


def _fail_or_work(attempt: int, seconds: float, failures: int) -> None:
    time.sleep(seconds)
    if attempt < failures:
        raise Planned(f"attempt {attempt}")


@hy.task(rate=f"{RATE_PER_S}/s", burst=BURST, max_retries=5, retry_backoff=0.2)
def rated() -> None:
    """Begins no oftener than its rate allows."""
    with execution():
        pass


@hy.task(queue=trickle_queue, max_retries=5, retry_backoff=0.2)
def trickle() -> None:
    """Begins no oftener than the rate of its queue allows."""
    with execution():
        pass


app.add_registry(hy)
