"""Middleware: code of the user around the runs and the sends of the tasks of an app or a registry.

Knows the context of a run and plain values only: who executes runs and who sends tasks call it. What is
promised of its order and its errors is in docs/reference/middleware.md.
"""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from hyrex.codec import CODECS, Codecs
from hyrex.context import HyrexContext
from hyrex.errors import DefinitionError
from hyrex.options import checked_texts

__all__ = ["CHANGES", "NOTHING", "Hooks", "Middleware", "RunInfo", "SendInfo", "Stack", "hooks_of"]

_PAIRS: Final = {"around_run": "around_run_async", "around_send": "around_send_async"}
_HOOKS: Final = (*_PAIRS, *_PAIRS.values(), "around_on_error")


class RunInfo:
    """The run that a middleware is around."""

    result: Any = None
    """What the function returned; None before that, and if it raised."""
    _span: Any = None  # of our own tracing

    def __init__(self, context: Callable[[], HyrexContext], arguments: Mapping[str, Any]) -> None:
        self._context = context
        self._arguments = arguments

    @property
    def context(self) -> HyrexContext:
        """What get_hyrex_context() returns in the function."""
        return self._context()

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The decoded arguments by name, to read; empty if they could not be decoded."""
        return MappingProxyType(self._arguments)


class SendInfo:
    """One call of send() or send_many(), or of their async forms, that a middleware is around."""

    many = False
    """True for send_many() and send_many_async()."""
    _trace_context: bytes = b""  # of our own tracing

    def __init__(
        self, names: Sequence[str], queues: Sequence[str], count: int, task_ids: Callable[[], Sequence[str]]
    ) -> None:
        self.task_names = tuple(names)
        """The names of the tasks, each once."""
        self.queues = tuple(queues)
        """Their queues, each once."""
        self.count = count
        """How many tasks are sent."""
        self._task_ids = task_ids
        self._headers: dict[str, str] = {}
        self._labels: dict[str, str] = {}

    @property
    def task_ids(self) -> Sequence[str]:
        """The ids of all tasks, in order. One that is deduplicated gets another id in the end."""
        return self._task_ids()

    def add_header(self, name: str, value: str) -> None:
        """Send each task with this header; one that the caller or the task gives stays. Raises TypeError or
        ValueError for a value that is no header. Once the tasks are being sent, it changes nothing."""
        self._headers = checked_texts("headers", {**self._headers, name: value})

    def add_label(self, name: str, value: str) -> None:
        """Send each task with this label, as add_header()."""
        self._labels = checked_texts("labels", {**self._labels, name: value})


class Middleware:
    """Subclass it and override what it is to be around; give an object of it to `app.middleware()`.

    Each method returns a context manager, for instance by @contextlib.contextmanager. It is entered before
    the function is called or the tasks are sent, and left after that, with the error if there was one. An
    object serves many runs at the same time.
    """

    def around_run(self, run: RunInfo, /) -> AbstractContextManager[object]:
        """Around each run: within its timeout, as if the function's code were in a `with` statement."""
        return nullcontext()

    def around_run_async(self, run: RunInfo, /) -> AbstractAsyncContextManager[object]:
        """Around each run of an `async def` task, instead of around_run()."""
        return nullcontext()

    def around_on_error(self, run: RunInfo, /) -> AbstractContextManager[object]:
        """Around the call of the task's error handler, after the run has ended."""
        return nullcontext()

    def around_send(self, send: SendInfo, /) -> AbstractContextManager[object]:
        """Around each send: entered before anything leaves the process, left when it is stored or failed."""
        return nullcontext()

    def around_send_async(self, send: SendInfo, /) -> AbstractAsyncContextManager[object]:
        """Around each send_async() and send_many_async(), instead of around_send()."""
        return nullcontext()


Enter = Callable[[Any], Any]
"""A method of a middleware that returns a context manager."""


class Hooks(NamedTuple):
    """What a sequence of middleware overrides, the outermost first."""

    run: tuple[Enter, ...] = ()
    run_async: tuple[Enter, ...] = ()
    on_error: tuple[Enter, ...] = ()
    send: tuple[Enter, ...] = ()
    send_async: tuple[Enter, ...] = ()


def hooks_of(found: Iterable[Middleware]) -> Hooks:
    """The methods that these override. For async code those for sync code, where one has no others."""
    found = tuple(found)
    return Hooks(
        run=_overridden(found, "around_run"),
        run_async=_overridden(found, "around_run_async", "around_run"),
        on_error=_overridden(found, "around_on_error"),
        send=_overridden(found, "around_send"),
        send_async=_overridden(found, "around_send_async", "around_send"),
    )


class Stack:
    """The middleware of one registry, below those of the registries that contain it."""

    def __init__(self) -> None:
        self._own: list[Middleware] = []
        self._above: list[Stack] = []
        self._known: tuple[int, Hooks] | None = None
        self._codecs: Codecs | None = None

    def add(self, added: Sequence[Middleware]) -> None:
        """Put these below those that are there. Raises TypeError, DefinitionError."""
        if not added:
            raise TypeError("middleware() wants at least one object of a subclass of hyrex.Middleware")
        for place, each in enumerate(added):
            _check(each)
            if any(each is other for other in (*self._own, *added[:place])):
                raise DefinitionError(f"{each!r} is given twice to middleware(); once is enough")
        self._own += added
        CHANGES.append(None)

    def put_below(self, other: "Stack") -> None:
        """Note that a registry contains this one."""
        if other not in self._above:
            self._above.append(other)
            if CHANGES:
                CHANGES.append(None)

    def encode_by(self, codecs: Codecs) -> None:
        """Have payloads of tasks here and below encoded by these."""
        self._codecs = codecs
        CODECS.append(None)

    @property
    def codecs(self) -> Codecs | None:
        """What encodes the payloads of tasks here. Raises DefinitionError if two apps say otherwise."""
        if self._codecs is not None or not self._above:
            return self._codecs
        found = {above.codecs for above in self._above}
        if len(found) > 1:
            names = sorted(str(each and each.name) for each in found)
            raise DefinitionError(f"a registry is in apps with different codecs: {', '.join(names)}")
        return found.pop()

    def all(self, within: "Collection[Stack] | None" = None) -> list[Middleware]:
        """Its own and those above it (`within`: only of these), the outermost first, each once."""
        found: list[Middleware] = []
        self._collect(found, set(), within)
        return found

    @property
    def hooks(self) -> Hooks:
        """Those of all(); looked up again only after something was added somewhere."""
        if self._known is None or self._known[0] != len(CHANGES):
            self._known = len(CHANGES), hooks_of(self.all())
        return self._known[1]

    def _collect(
        self, found: list[Middleware], seen: "set[Stack]", within: "Collection[Stack] | None"
    ) -> None:
        if self in seen or (within is not None and self not in within):
            return
        seen.add(self)
        for above in self._above:
            above._collect(found, seen, within)
        found += [each for each in self._own if not any(each is other for other in found)]


NOTHING: Final = Stack()
"""Of a task that no registry has made."""
CHANGES: Final[list[None]] = []
"""One for each change of what is around some tasks: empty in a process that has no middleware."""


def _overridden(found: Sequence[Middleware], *names: str) -> tuple[Enter, ...]:
    chosen = ((each, next((name for name in names if _overrides(each, name)), None)) for each in found)
    return tuple(getattr(each, name) for each, name in chosen if name is not None)


def _overrides(middleware: Middleware, name: str) -> bool:
    return getattr(type(middleware), name) is not getattr(Middleware, name)


def _check(given: object) -> None:
    """Raises TypeError for what would be around nothing, or not around all that it seems to be around."""
    if isinstance(given, type) and issubclass(given, Middleware):
        raise TypeError(f"middleware() wants an object, not a class: {given.__name__}()")
    if not isinstance(given, Middleware):
        raise TypeError(f"middleware() wants an object of a subclass of hyrex.Middleware, got {given!r}")
    kind = type(given).__name__
    overridden = [name for name in _HOOKS if _overrides(given, name)]
    if not overridden:
        raise TypeError(f"{kind} overrides none of {', '.join(_HOOKS)}, so it would be around nothing")
    for name in overridden:
        _check_method(kind, name, getattr(given, name))
    for name, async_name in _PAIRS.items():
        if async_name in overridden and name not in overridden:
            what = "runs of sync tasks" if name == "around_run" else "send()"
            raise TypeError(
                f"{kind} overrides {async_name} and not {name}, so {what} would go on without it; "
                f"override {name} too, if only to raise an error or to return contextlib.nullcontext()"
            )


def _check_method(kind: str, name: str, method: Any) -> None:
    remedy = "@contextlib.asynccontextmanager" if name in _PAIRS.values() else "@contextlib.contextmanager"
    if inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method):
        raise TypeError(f"{kind}.{name} is a generator; decorate it with {remedy}")
    if inspect.iscoroutinefunction(method):
        raise TypeError(f"{kind}.{name} is a coroutine function; make it a generator with {remedy}")


class _Async:
    """A context manager that is not async, as one that is."""

    def __init__(self, manager: AbstractContextManager[object, bool | None]) -> None:
        self._manager = manager

    async def __aenter__(self) -> object:
        return self._manager.__enter__()

    async def __aexit__(self, *error: Any) -> bool | None:
        return self._manager.__exit__(*error)


def entered_by(enter: Enter, subject: object) -> AbstractContextManager[object, bool | None]:
    """What sync code enters: what the method returns. Raises TypeError if it cannot be entered so."""
    manager = enter(subject)
    if not hasattr(
        manager, "__exit__"
    ):  # not by isinstance, which takes half a microsecond for these classes
        raise _no_manager(enter, manager, "__aexit__")
    return manager  # type: ignore[no-any-return]


def entered_by_async(enter: Enter, subject: object) -> AbstractAsyncContextManager[object, bool | None]:
    """As entered_by(), for async code, which enters context managers of both kinds. One that is both is
    entered as an async one: some have the other form only to refuse it (aiohttp.ClientSession)."""
    manager = enter(subject)
    if hasattr(manager, "__aexit__"):
        return manager  # type: ignore[no-any-return]
    if not hasattr(manager, "__exit__"):
        raise _no_manager(enter, manager)
    return _Async(manager)


def _no_manager(enter: Enter, manager: object, other: str = "") -> TypeError:
    kind = "a context manager that is not async" if other and hasattr(manager, other) else "a context manager"
    return TypeError(f"{called(enter)} must return {kind}, got {manager!r}")


def called(enter: Enter) -> str:
    """A method's name, for people."""
    return f"{type(getattr(enter, '__self__', None)).__name__}.{getattr(enter, '__name__', enter)}"
