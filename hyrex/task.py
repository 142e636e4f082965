"""A registered function: call it here, send it to run elsewhere, and decode what was sent."""

import functools
import inspect
import sys
from collections.abc import Callable, Coroutine, Mapping
from importlib import import_module
from pickle import PicklingError
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, TypeVar
from uuid import UUID

from hyrex.arguments.limits import checked_payload
from hyrex.arguments.signature import TaskSignature, place_of
from hyrex.options import SendOptions, TaskConfig
from hyrex.retry import retry_delay_s
from hyrex.runtime.loading import first_use, load
from hyrex.sendable import Sendable

if TYPE_CHECKING:
    from hyrex.arguments.payload import ArgumentsCodec, ResultCodec
    from hyrex.handle import TaskHandle

__all__ = ["AsyncHyrexTask", "HyrexTask", "RemoteTask", "is_importable"]

P = ParamSpec("P")
R = TypeVar("R")


class HyrexTask(Sendable[P, R], Generic[P, R]):
    """A function under a name. Models for arguments and result are built at their first use."""

    __name__: str
    __qualname__: str

    def __init__(
        self,
        function: Callable[..., Any],
        config: TaskConfig,
        local_names: Mapping[str, Any] | None = None,
    ) -> None:
        self.config = config
        self.options = SendOptions()
        self.function = function
        self.is_async = inspect.iscoroutinefunction(function)
        self.signature = TaskSignature(function, config.name, local_names)
        self._task = self
        self._arguments_codec: ArgumentsCodec | None = None
        self._result_codec: ResultCodec | None = None
        functools.update_wrapper(self, function, updated=())

    @property
    def name(self) -> str:
        """The name under which brokers and workers know it."""
        return self.config.name

    @property
    def place(self) -> str:
        """Where it is written: file:line."""
        return place_of(self.function)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now, as if it were not decorated."""
        result: R = self.function(*args, **kwargs)
        return result

    def __reduce__(self) -> tuple[Any, ...]:
        """As a function is pickled: by the name under which its module has it."""
        if not is_importable(self):
            raise PicklingError(
                f"task {self.name} of {self.place} is not {self.__module__}.{self.__qualname__}, so it "
                "cannot be pickled: define it at the top of a module, or pass its name and its handles' ids"
            )
        return _imported, (self.__module__, self.__qualname__)

    def __copy__(self) -> "HyrexTask[P, R]":
        return self

    def __deepcopy__(self, memo: object) -> "HyrexTask[P, R]":
        return self

    def __repr__(self) -> str:
        return f"<task {self.name} of {self.place}>"

    def handle(self, task_id: UUID | str) -> "TaskHandle[R]":
        """The handle of a task of this name that was sent earlier; no I/O."""
        from hyrex.handle import TaskHandle

        return TaskHandle(UUID(str(task_id)), self.name, task=self)

    def encode_arguments(self, /, *args: P.args, **kwargs: P.kwargs) -> bytes:
        """The payload of a call; raises TypeError, ArgumentInvalid or PayloadTooLarge."""
        return checked_payload(self.name, self._arguments.encode(self.signature.bind(args, kwargs)))

    def decode_arguments(self, payload: bytes) -> dict[str, Any]:
        """Validated arguments by parameter name; raises ArgumentInvalid."""
        return self._arguments.decode(payload)

    def invoke(self, arguments: Mapping[str, Any]) -> Any:
        """Call the function with decoded arguments; positional-only parameters are respected."""
        names = self.signature.positional_only
        if not names:
            return self.function(**arguments)
        given = [arguments[name] for name in names if name in arguments]
        return self.function(*given, **{k: v for k, v in arguments.items() if k not in names})

    def encode_result(self, value: Any) -> bytes:
        """The returned value as bytes; raises ResultNotSerializable."""
        return self._result.encode(value)

    def decode_result(self, result: bytes) -> R:
        """The value of a stored result; raises ResultInvalid."""
        found: R = self._result.decode(result)
        return found

    def retry_delay_s(self, retry_number: int) -> float:
        """Seconds before retry number 1, 2, ...; never raises."""
        return retry_delay_s(self.config.retry_backoff, retry_number, self.name)

    def build(self) -> None:
        """Build what is otherwise built at first use; raises TypeError for hints that cannot work."""
        _ = self._arguments, self._result

    @property
    def _arguments(self) -> "ArgumentsCodec":
        found = self._arguments_codec
        if found is None:
            payload = load("hyrex.arguments.payload")
            with first_use():
                found = self._arguments_codec = payload.ArgumentsCodec(self.signature)
        return found

    @property
    def _result(self) -> "ResultCodec":
        found = self._result_codec
        if found is None:
            payload = load("hyrex.arguments.payload")
            with first_use():
                found = self._result_codec = payload.ResultCodec(self.signature)
        return found


class AsyncHyrexTask(HyrexTask[P, R]):
    """A task whose function is `async def`: a local call gives a coroutine, a handle its value."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:  # type: ignore[override]
        """The function's coroutine, as if it were not decorated."""
        coroutine: Coroutine[Any, Any, R] = self.function(*args, **kwargs)
        return coroutine


class RemoteTask(HyrexTask[P, R]):
    """A stub for a function that other code defines: it can be sent, not called."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> NoReturn:
        """Always raises: the code is elsewhere."""
        raise TypeError(f"{self.name} is a remote stub; send() it, its code is not here")


def is_importable(task: HyrexTask[..., Any]) -> bool:
    """Whether another process finds it by its module and name."""
    try:
        return _imported(task.__module__, task.__qualname__) is task
    except (ImportError, AttributeError):
        return False


def _imported(module: str, qualname: str) -> Any:
    found: Any = sys.modules.get(module) or import_module(module)
    for name in qualname.split("."):
        found = getattr(found, name)
    return found
