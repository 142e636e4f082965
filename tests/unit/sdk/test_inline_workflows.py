"""Workflows in place: their nodes run where they are sent, by the broker's rules."""

import asyncio
import copy
import pickle
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hyrex import (
    HyrexApp,
    HyrexRegistry,
    Middleware,
    RunInfo,
    SendInfo,
    TaskFailed,
    TaskNotFound,
    TaskWasCancelled,
    WorkflowHandle,
    get_hyrex_workflow_context,
)
from hyrex.contrib.compressed import Compressed
from hyrex.contrib.encrypted import Encrypted
from hyrex.testing import inline
from hyrex.testing.inplace import InlineTasks
from tests.unit.sdk.workflow_tasks import (
    Order,
    diamond_of_tasks,
    fulfil,
    square,
    sum_of_squares,
    tell,
    where,
)

ORDER = Order(number=7, items=["lamp", "table"])


def test_results_are_handed_on_and_the_one_that_is_returned_is_the_workflows() -> None:
    with inline() as tasks:
        handle = fulfil.send(ORDER)
        assert handle.result() == "9 kg, receipt 7"
        assert (handle.status, handle.task_name) == ("completed", "fulfil")
        assert handle.nodes["tell"].result() == "7: 9 kg, receipt 7"
    assert [(call.name, call.arguments) for call in tasks.calls][3:] == [
        ("weigh", {"item": "table"}),
        ("ship", {"receipt": "receipt 7", "weights": [4.0, 5.0]}),
        ("tell", {"number": 7, "parcel": "9 kg, receipt 7"}),
    ]


def test_a_workflow_that_returns_nothing_has_the_results_of_its_last_nodes() -> None:
    with inline():
        assert diamond_of_tasks.send().result() == {"total": 0}
        assert sum_of_squares.send([]).result() == 0


async def test_it_is_sent_and_waited_for_on_a_loop() -> None:
    with inline():
        handle = await fulfil.send_async(ORDER)
        assert await handle.wait_async()
        assert await handle.result_async() == "9 kg, receipt 7"
        await handle.refresh_async()
        assert not await handle.retry_failed_async()


def test_a_node_knows_its_workflow() -> None:
    hy = HyrexRegistry()

    @hy.workflow
    def flow(order: Order) -> list[object]:
        return where.node().named("here").result

    with inline():
        handle = flow.send(ORDER)
        root = str(handle.id)
        sent = {"order": {"number": 7, "items": ["lamp", "table"]}}
        assert handle.result() == [root, "flow", "here", sent, root, root]
    assert get_hyrex_workflow_context() is None


def test_a_bad_end_skips_what_waits_for_it_and_what_runs_anyway_has_its_default() -> None:
    hy = HyrexRegistry()

    @hy.workflow
    def flow() -> None:
        bad = square.node(-1).named("bad")
        square.node(bad.result).named("skipped")
        square.node(3).named("other")
        tell.node(1, "later").after(bad, runs_anyway=True).named("after")

    with inline(raise_failures=False):
        handle = flow.send()
        assert not handle.wait()
        handle.refresh()
        assert {name: str(node.status) for name, node in handle.nodes.items()} == {
            "bad": "failed",
            "skipped": "cancelled",
            "other": "completed",
            "after": "completed",
        }
        assert handle.nodes["after"].result() == "1: later"
        handle.nodes["skipped"].refresh()
        assert [run.cause for run in handle.nodes["skipped"].task_runs] == ["skipped"]
        with pytest.raises(TaskFailed, match=r"WorkflowFailed: bad \(failed\), skipped \(cancelled\)"):
            handle.result()
        for name, kind in (("bad", TaskFailed), ("skipped", TaskWasCancelled)):
            with pytest.raises(kind, match=rf"^square \S+ \(node '{name}'\)"):
                handle.nodes[name].result()


def test_the_error_of_a_node_is_raised_where_its_workflow_is_sent_after_all_have_run() -> None:
    with inline() as tasks, pytest.raises(ValueError, match="-2 is negative"):
        sum_of_squares.send([-2, 3])
    assert [(str(each.task_name), str(each.status)) for each in tasks.sent[1:]] == [
        ("square", "failed"),
        ("square", "completed"),
    ]


def test_fail_fast_cancels_what_has_not_run() -> None:
    with inline(raise_failures=False):
        handle = sum_of_squares.with_config(fail_fast=True).send([2, -2, 3])
        handle.refresh()
        assert [str(node.status) for node in handle.nodes.values()] == [
            "completed",
            "failed",
            "cancelled",
            "cancelled",
        ]


def test_a_retry_runs_bad_and_skipped_nodes_again_and_no_other() -> None:
    runs: list[str] = []
    hy = HyrexRegistry()

    @hy.task
    def step(name: str, before: str = "") -> str:
        runs.append(name)
        if name == "b" and runs.count("b") == 1:
            raise OSError("not yet")
        return before + name

    @hy.workflow
    def flow() -> str:
        return step.node("c", step.node("b", step.node("a").result).result).result

    with inline(raise_failures=False):
        handle = flow.send()
        assert not handle.wait()
        assert handle.retry_failed()
        assert handle.result() == "abc"
        assert not handle.retry_failed()
    assert runs == ["a", "b", "b", "c"]


def test_what_failed_is_retried_without_a_look_at_all_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    hy, reasons = HyrexRegistry(), [OSError("not yet")]

    @hy.task
    def step() -> int:
        if reasons:
            raise reasons.pop()
        return 7

    @hy.workflow
    def flow() -> int:
        return step.node().result

    with inline(raise_failures=False):
        handle = flow.send()
        monkeypatch.delattr(InlineTasks, "get_workflow")
        assert handle.retry_failed()
        assert handle.result() == 7


def test_a_workflow_waits_for_its_time_and_its_key_is_one_workflow() -> None:
    with inline() as tasks:
        later = sum_of_squares.with_config(delay=60, idempotency_key="once")
        handle = later.send([3])
        again = later.send([3])
        assert (handle.status, again.id, again.deduplicated) == ("scheduled", handle.id, True)
        assert len(tasks.calls) == 1
        tasks.advance(60)
        assert handle.result() == 9
        again.wait()
        assert again.result() == 9
        assert again.nodes["total"].id == handle.nodes["total"].id


def test_another_process_finds_it_by_its_id() -> None:
    with inline():
        sent = fulfil.send(ORDER)
        for handle in (fulfil.handle(sent.id), pickle.loads(pickle.dumps(sent)), copy.copy(sent)):
            assert isinstance(handle, WorkflowHandle)
            assert handle.result() == "9 kg, receipt 7"
            assert set(handle.nodes) == {"charge", "weigh", "weigh-2", "ship", "tell"}
        with pytest.raises(TaskNotFound):
            fulfil.handle("018f0000-0000-7000-8000-000000000000").refresh()
    assert pickle.loads(pickle.dumps(fulfil)) is fulfil


def test_codecs_encode_what_nodes_are_given_and_what_they_return() -> None:
    hy, app = (
        HyrexRegistry(),
        HyrexApp("shop", codec=[Compressed(above_bytes=1), Encrypted({"k": b"k" * 32})]),
    )
    app.add_registry(hy)

    @hy.task
    def shout(text: str) -> str:
        return text.upper()

    @hy.task
    async def join(texts: list[str], between: str) -> str:
        context = get_hyrex_workflow_context()
        assert context is not None
        return between.join(texts) + str(context.arguments["words"])

    @hy.workflow
    def flow(words: list[str]) -> str:
        return join.node([shout.node(word).result for word in words], "-").result

    with inline() as tasks:
        handle = flow.send(["a", "b"])
        assert handle.result() == "A-B['a', 'b']"
        assert flow.handle(handle.id).result() == "A-B['a', 'b']"
        run = handle.nodes["shout"]
        run.refresh()
        assert run._state is not None
        assert (run._state.runs[0].result or b"").startswith(b'{"hyrex.codec":')
        assert run.task_runs[0].result == "A"
    assert tasks.calls[-1].arguments == {"texts": ["A", "B"], "between": "-"}


def test_middleware_is_around_the_send_and_around_each_node() -> None:
    told: list[object] = []

    class Around(Middleware):
        @contextmanager
        def around_send(self, send: SendInfo, /) -> Iterator[None]:
            told.append((send.task_names, send.count, send.many, len(send.task_ids)))
            send.add_header("tenant", "acme")
            yield

        @contextmanager
        def around_run(self, run: RunInfo, /) -> Iterator[None]:
            told.append((dict(run.arguments), run.context.headers.get("tenant")))
            yield

    hy = HyrexRegistry()
    hy.middleware(Around())

    @hy.task
    def add(a: int, b: int = 1) -> int:
        return a + b

    @hy.workflow
    def flow() -> int:
        return add.node(add.node(1).result).result

    with inline():
        assert flow.send().result() == 3
        assert asyncio.run(_sent(flow)) == 3
    once = [(("flow", "add"), 3, True, 3), ({"a": 1}, "acme"), ({"a": 2}, "acme")]
    assert told == once + once


async def _sent(flow: object) -> object:
    handle = await flow.send_async()  # type: ignore[attr-defined]
    return await handle.result_async()


def test_a_cancelled_node_begins_no_workflow_that_waits_for_its_time() -> None:
    with inline() as tasks:
        handle = sum_of_squares.with_config(delay=60).send([1, 2])
        assert handle.nodes["square"].cancel()
        handle.refresh()
        assert [handle.status, *(node.status for node in handle.nodes.values())] == [
            "scheduled",
            "cancelled",
            "blocked",
            "blocked",
        ]
        tasks.advance(60)
        handle.refresh()
        assert [handle.status, *(node.status for node in handle.nodes.values())] == [
            "failed",
            "cancelled",
            "completed",
            "cancelled",
        ]
