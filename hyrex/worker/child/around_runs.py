"""Calls a task's function within the middleware that is around it, as if that were `with` statements in it.

Middleware is user code, within the run's timeout: it may be interrupted wherever it is, like the function.
What fails besides the function (decoding, encoding) is raised here too, so that middleware sees it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NoReturn, TypeVar

from hyrex.errors import TaskCancelled, TaskTimeout
from hyrex.middleware import Enter, Hooks, Middleware, RunInfo, called, entered_by, entered_by_async, hooks_of
from hyrex.task import invoke
from hyrex.worker.child.execution import Execution, conclude, conclude_off_loop, explain
from hyrex.worker.shared.logs import warn
from hyrex.worker.shared.outcome import Completed, Outcome, StopCause

T = TypeVar("T")


class RunWithin:
    """One execution within its middleware. `refused`: its outcome if it cannot be executed; it has an error.

    A worker calls `call` or `call_async` as it would call the function, and makes the outcome with `ended`.
    """

    def __init__(self, hooks: Hooks, execution: Execution, refused: Outcome | None) -> None:
        self._hooks = hooks
        self.execution = execution
        self._refused = refused
        self._concluded: Outcome | None = None
        self.info = RunInfo(execution, execution.arguments)

    def call(self) -> object:
        """The function's value, encoded for `ended`. Raises what it, or what is around it, raises."""
        return within(self._hooks.run, self.info, self._call) if self._hooks.run else self._call()

    async def call_async(self) -> object:
        """As call(), for an async function."""
        return await self._within(self._hooks.run_async)

    def ended(self, error: BaseException | None) -> Outcome:
        """The outcome, once `call` has returned, or raised this error."""
        concluded, execution = self._concluded, self.execution
        if error is None:
            assert concluded is not None
            return concluded
        execution.info = self.info  # for the error handler; not before, since each refers to the other
        if self._refused is not None:
            execution.started_ns = 0  # the function did not begin
            return self._refused
        if concluded is not None and not isinstance(concluded, Completed) and execution.stop is None:
            return concluded  # its result cannot be stored, whatever middleware makes of that
        return explain(execution, error)

    def _call(self) -> object:
        self._begin()
        execution = self.execution
        assert execution.task is not None
        value = invoke(execution.task, execution.arguments)
        return self._encoded(value, conclude(execution, value))

    async def _call_async(self) -> object:
        self._begin()
        execution = self.execution
        assert execution.task is not None
        value = await invoke(execution.task, execution.arguments)
        return self._encoded(value, await conclude_off_loop(execution, value))

    def _begin(self) -> None:
        if self._refused is not None:
            assert self.execution.error is not None
            raise self.execution.error
        if self.execution.stop is not None:  # middleware has swallowed what asked it to stop
            raise TaskTimeout() if self.execution.stop is StopCause.TIMEOUT else TaskCancelled()

    def _encoded(self, value: object, concluded: Outcome) -> object:
        self._concluded = concluded
        if not isinstance(self._concluded, Completed):
            assert self.execution.error is not None
            raise self.execution.error
        self.info.result = value
        return value

    async def _within(self, hooks: Sequence[Enter]) -> object:
        if not hooks:
            return await self._call_async()
        manager = entered_by_async(hooks[0], self.info)
        await manager.__aenter__()
        try:
            value = await self._within(hooks[1:])
        except BaseException as error:
            _raise_again(hooks[0], error, await manager.__aexit__(type(error), error, error.__traceback__))
        await manager.__aexit__(None, None, None)
        return value


def hooks_of_tasks(
    tasks: Iterable[str], around: Mapping[str, Sequence[Middleware]], outermost: Middleware | None
) -> Mapping[str, Hooks]:
    """The hooks of each task that something is around, by its name; `outermost` is around all."""
    first = () if outermost is None else (outermost,)
    found = {name: hooks_of((*first, *around.get(name, ()))) for name in tasks}
    return {name: hooks for name, hooks in found.items() if hooks.run_async or hooks.on_error}


def within(hooks: Sequence[Enter], info: RunInfo, call: Callable[[], T]) -> T:
    """Call it within these context managers. None of them can end a run well that has failed."""
    if not hooks:
        return call()
    manager = entered_by(hooks[0], info)
    manager.__enter__()
    try:
        value = within(hooks[1:], info, call)
    except BaseException as error:
        _raise_again(hooks[0], error, manager.__exit__(type(error), error, error.__traceback__))
    manager.__exit__(None, None, None)
    return value


def _raise_again(enter: Enter, error: BaseException, swallowed: bool | None) -> NoReturn:
    if swallowed:
        kind = type(error).__name__
        warn(f"{called(enter)} has swallowed a {kind}; middleware cannot do that, and it is raised again")
    raise error
