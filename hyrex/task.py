"""A registered function, which can be called here or sent to run on a worker."""

import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping
from pickle import PicklingError
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, TypeVar
from uuid import UUID

from hyrex.arguments.coder import TaskCoder
from hyrex.arguments.limits import PAYLOAD_LIMIT_BYTES
from hyrex.arguments.signature import TaskSignature, place_of
from hyrex.backend.ids import given_id
from hyrex.backend.send_spec import SendSpec
from hyrex.codec import RESULT_MARK
from hyrex.errors import PayloadUnavailable
from hyrex.middleware import NOTHING, Stack
from hyrex.options import KeyOf, SendOptions, TaskConfig
from hyrex.retry import retry_delay_s
from hyrex.runtime.portable import imported, is_importable
from hyrex.sendable import Sendable

if TYPE_CHECKING:
    from hyrex.handle import TaskHandle

__all__ = [
    "ApprovalTask",
    "AsyncHyrexTask",
    "HyrexTask",
    "RemoteTask",
    "coder_of",
    "decoded_result",
    "invoke",
]

P = ParamSpec("P")
R = TypeVar("R")


class HyrexTask(Sendable[P, R], Generic[P, R]):
    """A function with a task name. Models for arguments and result are built at their first use."""

    __name__: str
    __qualname__: str
    _stack: Stack = NOTHING
    """What is around its runs and sends."""
    is_outside: bool = False
    """No worker runs it: a call from outside ends it."""

    def __init__(
        self,
        function: Callable[..., Any],
        config: TaskConfig,
        local_names: Mapping[str, Any] | None = None,
        options: SendOptions | None = None,
    ) -> None:
        self.config = config
        self.options = options or SendOptions()
        self.function = function
        self.keys_of: Mapping[str, KeyOf] = {}
        """Make the keys of a send, by the names of the options, where the arguments decide them."""
        self.is_async = inspect.iscoroutinefunction(function)
        self._coder = TaskCoder(TaskSignature(function, config.name, local_names))
        self._coder.largest_bytes = self._largest_bytes
        self._spec = SendSpec(self, config, self.options)
        functools.update_wrapper(self, function, updated=())

    @property
    def name(self) -> str:
        """The name under which brokers and workers know it."""
        return self.config.name

    @property
    def place(self) -> str:
        """Where the function is defined, as file:line."""
        return place_of(self.function)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function directly, as if it were not decorated."""
        result: R = self.function(*args, **kwargs)
        return result

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as functions are, by module and name. Raises PicklingError if that finds another object."""
        if not is_importable(self):
            raise PicklingError(
                f"task {self.name} of {self.place} is not {self.__module__}.{self.__qualname__}, so it "
                "cannot be pickled: define it at the top of a module, or pass its name and its handles' ids"
            )
        return imported, (self.__module__, self.__qualname__)

    def __copy__(self) -> "HyrexTask[P, R]":
        return self

    def __deepcopy__(self, memo: object) -> "HyrexTask[P, R]":
        return self

    def __repr__(self) -> str:
        return f"<task {self.name} of {self.place}>"

    def handle(self, task_id: UUID | str) -> "TaskHandle[R]":
        """The handle of an earlier sent task of this name; no I/O."""
        from hyrex.handle import TaskHandle

        return TaskHandle(given_id(task_id), self.name, decode=self._decode_result)

    def retry_delay_s(self, retry_number: int) -> float:
        """Seconds before retry number 1, 2, ...; never raises."""
        return retry_delay_s(self.config.retry_backoff, retry_number, self.name)

    def _decode_result(self, result: bytes) -> R:
        """A method, so that pickled handles and runs refer to the task by its name."""
        found: R = self._coder.decode_result(decoded_result(self, result, self.name))
        return found

    def _largest_bytes(self) -> int:
        codecs = self._stack.codecs
        return PAYLOAD_LIMIT_BYTES if codecs is None else codecs.largest_bytes


class AsyncHyrexTask(HyrexTask[P, R]):
    """A task whose function is `async def`: a direct call returns a coroutine, result() its value."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:  # type: ignore[override]
        """The function's coroutine, as if it were not decorated."""
        coroutine: Coroutine[Any, Any, R] = self.function(*args, **kwargs)
        return coroutine


class RemoteTask(HyrexTask[P, R]):
    """A stub for a function that other code defines: it can be sent but not called."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> NoReturn:
        """Always raises TypeError, since the function's code is elsewhere."""
        raise TypeError(f"{self.name} is a remote stub, whose code is elsewhere; use send()")


class ApprovalTask(RemoteTask[P, R]):
    """A task that no worker runs: once sent, it waits until complete() ends it. Its function only says which
    arguments it has, and of which type its result is."""

    is_outside = True

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> NoReturn:
        """Always raises TypeError, since nobody runs it."""
        raise TypeError(
            f"{self.name} is an approval, which nobody runs; use send(), and complete() to end it"
        )


def coder_of(task: HyrexTask[..., Any]) -> TaskCoder:
    """The coder for the task's arguments and results."""
    return task._coder


def decoded_result(task: HyrexTask[..., Any], result: bytes, of: str) -> bytes:
    """A result of the task named `of`, as JSON, by the codecs of this task's app. Raises PayloadUnavailable,
    PayloadUnreadable."""
    if not result.startswith(RESULT_MARK):
        return result
    if (codecs := task._stack.codecs) is None:
        raise PayloadUnavailable(
            f"result of {of} is encoded by a codec, and here no app with a codec has {task.name}: import "
            "the one that has it"
        )
    return codecs.decode_result(result, of)


def invoke(task: HyrexTask[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Call the function with decoded arguments, passing positional-only parameters by position."""
    names = task._coder.signature.positional_only
    if not names:
        return task.function(**arguments)
    given = [arguments[name] for name in names if name in arguments]
    return task.function(*given, **{k: v for k, v in arguments.items() if k not in names})
