"""Middleware is around runs and sends as `with` statements would be, and changes no more than it may."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from typing import Any

import pytest

from hyrex import (
    ArgumentInvalid,
    DefinitionError,
    HyrexApp,
    HyrexRegistry,
    Middleware,
    NonRetryable,
    RetryAfter,
    RunInfo,
    SendInfo,
    TaskCall,
    get_hyrex_context,
    send_many,
    send_many_async,
)
from hyrex.app import middleware_of_tasks
from hyrex.testing import inline

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


class Plain(Middleware):
    """Does nothing; what a test replaces makes it do something."""

    def around_run(self, run: RunInfo, /) -> AbstractContextManager[object]:
        return nullcontext()


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
        asyncio.run(_sent([double.call(3)]))
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


def alone(middleware: Middleware) -> HyrexRegistry:
    """A registry with nothing else around its tasks."""
    registry = HyrexRegistry()
    registry.middleware(middleware)
    return registry


def around(run: Any) -> Middleware:
    """One whose around_run is this generator."""
    made = type("Made", (Plain,), {"around_run": contextmanager(run)})
    return made()  # type: ignore[no-any-return]


def test_one_that_raises_before_the_function_fails_the_run_and_the_function_is_not_called() -> None:
    def connect() -> None:
        raise ConnectionError("no database")

    def refuse(self: Any, run: RunInfo) -> Iterator[None]:
        connect()
        yield

    hy = alone(around(refuse))

    @hy.task(max_retries=2, retry_backoff=0)
    def work() -> None:
        seen.append("work")

    with inline(raise_failures=False):
        handle = work.send()
    assert [run.error.type for run in handle.task_runs if run.error] == ["ConnectionError"] * 3
    assert seen == []


def test_one_that_raises_after_the_function_fails_the_run_as_a_commit_does() -> None:
    def commit(self: Any, run: RunInfo) -> Iterator[None]:
        yield
        raise ConnectionError("commit failed")

    hy = alone(around(commit))

    @hy.task
    def work() -> int:
        return 1

    with inline(raise_failures=False):
        handle = work.send()
    (run,) = handle.task_runs
    assert run.error is not None
    assert (run.status, run.error.message) == ("failed", "commit failed")


def test_one_may_raise_another_error_than_the_function_which_decides_about_the_retry() -> None:
    def translate(self: Any, run: RunInfo) -> Iterator[None]:
        try:
            yield
        except LookupError as error:
            raise NonRetryable("gone for good") from error

    hy = alone(around(translate))

    @hy.task(max_retries=3, retry_backoff=0)
    def work() -> None:
        raise LookupError

    with inline(raise_failures=False):
        handle = work.send()
    assert [run.error.type for run in handle.task_runs if run.error] == ["NonRetryable"]


@pytest.mark.parametrize("is_async", [False, True])
async def test_one_that_swallows_the_error_changes_nothing(
    is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def swallow(self: Any, run: RunInfo) -> Iterator[None]:
        try:
            yield
        except ValueError:
            pass

    hy = alone(around(swallow))

    @hy.task
    def work() -> None:
        raise ValueError("real")

    @hy.task
    async def work_later() -> None:
        raise ValueError("real")

    with inline(raise_failures=False):
        handle = await (work_later if is_async else work).send_async()
    (run,) = handle.task_runs
    assert run.error is not None
    assert run.error.message == "real"
    assert "swallowed a ValueError" in caplog.text


def test_a_result_that_cannot_be_stored_and_arguments_that_cannot_be_read_are_seen_and_stay_final() -> None:
    errors: list[str] = []

    def watch(self: Any, run: RunInfo) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            errors.append(type(error).__name__)
            raise RetryAfter(0) from error

    hy = alone(around(watch))

    @hy.task(max_retries=1)
    def unstorable() -> Any:
        return object()

    @hy.task(max_retries=1)
    def picky(n: int) -> None: ...

    with inline(raise_failures=False) as tasks:
        handle = unstorable.send()
        outgoing = picky.call(1)
        outgoing._payload = b'{"n": "no number"}'
        with pytest.raises(ArgumentInvalid), inline():
            send_many([outgoing])
        assert len(tasks.sent) == 1
    assert errors == ["ResultNotSerializable", "ArgumentInvalid"]
    assert [run.error.type for run in handle.task_runs if run.error] == ["ResultNotSerializable"]


def test_what_a_send_raises_or_returns_is_what_the_broker_said(caplog: pytest.LogCaptureFixture) -> None:
    class Late(Middleware):
        @contextmanager
        def around_send(self, send: SendInfo, /) -> Iterator[None]:
            try:
                yield
            finally:
                raise LookupError("too late")

    hy = alone(Late())

    @hy.task
    def work() -> int:
        return 1

    @hy.task
    def broken() -> None:
        raise ZeroDivisionError

    with inline():
        assert work.send().result() == 1
        with pytest.raises(ZeroDivisionError):
            broken.send()
    assert "raised after the tasks were stored" in caplog.text
    assert "raised after the send had failed" in caplog.text


async def _sent(calls: list[TaskCall[Any]]) -> None:
    await send_many_async(calls)


def test_one_that_raises_before_a_send_keeps_it_from_being_sent() -> None:
    class Closed(Middleware):
        def around_send(self, send: SendInfo, /) -> AbstractContextManager[object]:
            raise PermissionError("closed on sundays")

    hy = alone(Closed())

    @hy.task
    def work() -> None: ...

    with inline() as tasks:
        with pytest.raises(PermissionError):
            work.send()
        with pytest.raises(PermissionError):
            asyncio.run(_sent([work.call()]))
    assert tasks.sent == []


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


class OnlyAsync(Middleware):
    @asynccontextmanager
    async def around_send_async(self, send: SendInfo, /) -> AsyncIterator[None]:
        yield


class Nothing(Middleware):
    """Overrides nothing."""


def made(name: str, method: Any) -> Middleware:
    """One with this method."""
    return type("Odd", (Middleware,), {name: method})()  # type: ignore[no-any-return]


def generator(self: Any, run: RunInfo) -> Iterator[None]:
    yield


async def coroutine(self: Any, run: RunInfo) -> None: ...


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((), "wants at least one object"),
        ((Noting,), r"wants an object, not a class: Noting\(\)"),
        ((print,), "wants an object of a subclass of hyrex.Middleware, got <built-in function print>"),
        ((Nothing(),), "Nothing overrides none of around_run"),
        (
            (OnlyAsync(),),
            r"overrides around_send_async and not around_send, so send\(\) would go on without it",
        ),
        (
            (made("around_run", generator),),
            "Odd.around_run is a generator; decorate it with @contextlib.context",
        ),
        ((made("around_run", coroutine),), "Odd.around_run is a coroutine function"),
    ],
)
def test_what_would_not_work_is_refused_where_it_is_given(given: tuple[Any, ...], said: str) -> None:
    for target in (HyrexApp("x"), HyrexRegistry()):
        with pytest.raises(TypeError, match=said):
            target.middleware(*given)


def test_the_same_object_twice_is_refused_and_none_of_that_call_is_taken() -> None:
    registry, one, two = HyrexRegistry(), Plain(), Plain()
    registry.middleware(one)
    with pytest.raises(DefinitionError, match="given twice"):
        registry.middleware(two, one)
    assert registry._stack.all() == [one]


def test_a_method_that_returns_no_context_manager_fails_the_run_and_says_which() -> None:
    hy = alone(made("around_run", lambda self, run: None))

    @hy.task
    def work() -> None: ...

    with inline(), pytest.raises(TypeError, match=r"Odd\.<lambda> must return a context manager, got None"):
        work.send()


@pytest.mark.parametrize(
    ("value", "error"), [(1, TypeError), ("a\0b", ValueError), ("x" * 70_000, ValueError)]
)
def test_a_header_that_cannot_be_sent_is_refused_before_anything_is_sent(
    value: Any, error: type[Exception]
) -> None:
    class Adding(Middleware):
        def around_send(self, send: SendInfo, /) -> AbstractContextManager[object]:
            send.add_header("h", value)
            return nullcontext()

    hy = alone(Adding())

    @hy.task
    def work() -> None: ...

    with inline() as tasks, pytest.raises(error):
        work.send()
    assert tasks.sent == []


def test_arguments_are_shown_to_read_only(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)

    def change(self: Any, run: RunInfo) -> Iterator[None]:
        run.arguments["n"] = 5  # type: ignore[index]
        yield

    hy = alone(around(change))

    @hy.task
    def work(n: int) -> int:
        return n

    with inline(), pytest.raises(TypeError, match="does not support item assignment"):
        work.send(1)
