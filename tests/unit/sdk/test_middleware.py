"""Middleware is around runs and sends as `with` statements would be, and changes no more than it may."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager

import pytest

from hyrex import (
    HyrexApp,
    HyrexRegistry,
    Middleware,
    NonRetryable,
    RunInfo,
    SendInfo,
    get_hyrex_context,
    send_many,
)
from hyrex.app import middleware_of_tasks
from hyrex.testing import inline
from tests.unit.sdk.middlewares import Plain, alone, send_all_async

seen: list[str] = []


class Noting(Middleware):
    """Notes what it is around, in all its forms."""

    def __init__(self, name: str) -> None:
        self.name = name

    @contextmanager
    def around_run(self, run: RunInfo, /) -> Iterator[None]:
        assert run.context is get_hyrex_context()
        seen.append(f"{self.name}> {run.context.task_name}{dict(run.arguments)}")
        try:
            yield
        except BaseException as error:
            seen.append(f"{self.name}! {type(error).__name__}")
            raise
        seen.append(f"{self.name}< {run.result}")

    @contextmanager
    def around_on_error(self, run: RunInfo, /) -> Iterator[None]:
        seen.append(f"{self.name}> handler of {run.context.task_name}")
        yield
        seen.append(f"{self.name}< handler")

    @contextmanager
    def around_send(self, send: SendInfo, /) -> Iterator[None]:
        seen.append(f"{self.name}> send {send.count} {','.join(send.task_names)} {len(send.task_ids)}")
        send.add_header("from", self.name)
        send.add_label("by", self.name)
        yield
        seen.append(f"{self.name}< send")


def handler(error: Exception) -> None:
    seen.append(f"handler {type(error).__name__}")


inner = HyrexRegistry()
outer = HyrexApp("outer")
outer.add_registry(inner)
inner.middleware(Noting("c"))
outer.middleware(Noting("a"), Noting("b"))


@inner.task
def double(n: int) -> int:
    seen.append("double")
    return 2 * n


@inner.task
async def double_later(n: int) -> int:
    seen.append("double_later")
    return 2 * n


@inner.task(on_error=handler)
def fail(n: int) -> None:
    raise NonRetryable(f"{n}")


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seen.clear()


def test_the_app_is_outermost_then_those_given_first_and_each_sees_arguments_and_result() -> None:
    with inline():
        assert double.send(2).result() == 4
    sent, ran = seen[:3], seen[3:10]
    assert sent == ["a> send 1 double 1", "b> send 1 double 1", "c> send 1 double 1"]
    given = "double{'n': 2}"
    assert ran == [f"a> {given}", f"b> {given}", f"c> {given}", "double", "c< 4", "b< 4", "a< 4"]
    assert seen[10:] == ["c< send", "b< send", "a< send"]


async def test_async_tasks_and_async_sends_have_the_same_around_them() -> None:
    with inline():
        handle = await double_later.send_async(2)
        assert await handle.result_async() == 4
    assert [line[0] for line in seen] == [*"abc", *"abc", "d", *"cba", *"cba"]


def test_a_batch_is_one_send() -> None:
    with inline() as tasks:
        send_many([double.call(1), double_later.call(2)])
        asyncio.run(send_all_async([double.call(3)]))
    assert [line for line in seen if line.startswith("a> send")] == [
        "a> send 2 double,double_later 2",
        "a> send 1 double 1",
    ]
    assert [call._outgoing.spec.options.headers for call in tasks.calls] == [{"from": "c"}] * 3
    assert [call._outgoing.spec.options.labels for call in tasks.calls] == [{"by": "c"}] * 3


def test_what_the_caller_says_stands_before_what_middleware_adds() -> None:
    with inline() as tasks:
        double.with_config(headers={"from": "me", "other": "1"}).send(1)
    (call,) = tasks.calls
    assert call._outgoing.spec.options.headers == {"from": "me", "other": "1"}
    assert double._spec.options.headers == {}


def test_an_error_goes_through_all_and_the_handler_has_its_own_around_it() -> None:
    with inline(raise_failures=False):
        fail.send(7)
    assert seen[6:9] == ["c! NonRetryable", "b! NonRetryable", "a! NonRetryable"]
    assert seen[9:13] == [
        "a> handler of fail",
        "b> handler of fail",
        "c> handler of fail",
        "handler NonRetryable",
    ]


async def test_async_code_enters_the_async_form_and_sync_code_the_other() -> None:
    class Both(Noting):
        @asynccontextmanager
        async def around_run_async(self, run: RunInfo, /) -> AsyncIterator[None]:
            seen.append("async run")
            yield

        @asynccontextmanager
        async def around_send_async(self, send: SendInfo, /) -> AsyncIterator[None]:
            seen.append("async send")
            send.add_header("how", "async")
            yield

    hy = alone(Both("x"))

    @hy.task
    def work() -> None: ...

    @hy.task
    async def work_later() -> None: ...

    with inline() as tasks:
        await work_later.send_async()
        assert seen == ["async send", "async run"]
        await work.send_async()
    assert seen[2:] == ["async send", "x> work{}", "x< None"]
    assert tasks.calls[0]._outgoing.spec.options.headers == {"how": "async"}


async def test_async_code_enters_what_has_both_forms_as_an_async_one() -> None:
    class Session(AbstractAsyncContextManager[None]):
        def __enter__(self) -> None:
            raise TypeError("use async with")

        def __exit__(self, *error: object) -> None: ...

        async def __aexit__(self, *error: object) -> None:
            seen.append("closed")

    class Sessions(Plain):
        def around_run_async(self, run: RunInfo, /) -> AbstractAsyncContextManager[object]:
            return Session()

    hy = alone(Sessions())

    @hy.task
    async def work_later() -> None: ...

    with inline():
        await work_later.send_async()
    assert seen == ["closed"]


def test_a_worker_takes_only_what_its_own_app_puts_around_a_shared_registry() -> None:
    shared, mine, other = HyrexRegistry(), HyrexApp("mine"), HyrexApp("other")
    first, second, third = Plain(), Plain(), Plain()
    mine.add_registry(shared)
    other.add_registry(shared)
    mine.middleware(first)
    other.middleware(second)
    shared.middleware(third)

    @shared.task
    def work() -> None: ...

    assert middleware_of_tasks(mine) == {"work": [first, third]}
    assert middleware_of_tasks(shared) == {"work": [third]}
    assert middleware_of_tasks(HyrexApp("none")) == {}
