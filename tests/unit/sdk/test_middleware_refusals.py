"""Middleware that would not work, or changes more than it may, is refused and told why."""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import Any

import pytest

from hyrex import DefinitionError, HyrexApp, HyrexRegistry, Middleware, RunInfo, SendInfo
from hyrex.testing import inline
from tests.unit.sdk.middlewares import Plain, alone, around, made


class OnlyAsync(Middleware):
    @asynccontextmanager
    async def around_send_async(self, send: SendInfo, /) -> AsyncIterator[None]:
        yield


class Nothing(Middleware):
    """Overrides nothing."""


def generator(self: Any, run: RunInfo) -> Iterator[None]:
    yield


async def coroutine(self: Any, run: RunInfo) -> None: ...


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((), "wants at least one object"),
        ((Plain,), r"wants an object, not a class: Plain\(\)"),
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
