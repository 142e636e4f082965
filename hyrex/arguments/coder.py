"""One task's arguments and results as bytes, by models that are built at their first use."""

from typing import TYPE_CHECKING, Any

from hyrex.arguments.limits import checked_payload
from hyrex.arguments.signature import TaskSignature
from hyrex.runtime.loading import first_use, load

if TYPE_CHECKING:
    from hyrex.arguments.payload import ArgumentsCodec, ResultCodec

__all__ = ["TaskCoder"]


class TaskCoder:
    """Encodes and decodes what a task is called with and what it returns."""

    __slots__ = ("_arguments", "_result", "signature")

    def __init__(self, signature: TaskSignature) -> None:
        self.signature = signature
        self._arguments: ArgumentsCodec | None = None
        self._result: ResultCodec | None = None

    def encode_arguments(self, /, *args: Any, **kwargs: Any) -> bytes:
        """The payload of a call; raises TypeError, ArgumentInvalid or PayloadTooLarge."""
        signature = self.signature
        codec = self._arguments or self._build_arguments()
        return checked_payload(signature.task_name, codec.encode(signature.bind(args, kwargs)))

    def decode_arguments(self, payload: bytes) -> dict[str, Any]:
        """Validated arguments by parameter name; raises ArgumentInvalid."""
        return (self._arguments or self._build_arguments()).decode(payload)

    def encode_result(self, value: Any) -> bytes:
        """The returned value as bytes; raises ResultNotSerializable."""
        return (self._result or self._build_result()).encode(value)

    def decode_result(self, result: bytes) -> Any:
        """The value of a stored result; raises ResultInvalid."""
        return (self._result or self._build_result()).decode(result)

    def build(self) -> None:
        """Build what is otherwise built at first use; raises TypeError for hints that cannot work."""
        _ = self._arguments or self._build_arguments(), self._result or self._build_result()

    def _build_arguments(self) -> "ArgumentsCodec":
        payload = load("hyrex.arguments.payload")
        with first_use():
            found: ArgumentsCodec = payload.ArgumentsCodec(self.signature)
            self._arguments = found
        return found

    def _build_result(self) -> "ResultCodec":
        payload = load("hyrex.arguments.payload")
        with first_use():
            found: ResultCodec = payload.ResultCodec(self.signature)
            self._result = found
        return found
