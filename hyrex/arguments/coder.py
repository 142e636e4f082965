"""One task's arguments and results as bytes, by models that are built at their first use.

Pydantic makes much of what it needs when it first needs it, and holds a lock of its own meanwhile while
other threads run: a fork then leaves its child a lock that nobody opens. So whatever is done for the first
time is done where forks wait for it.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from hyrex.arguments.limits import PAYLOAD_LIMIT_BYTES, checked_payload
from hyrex.arguments.signature import TaskSignature
from hyrex.errors import loaded
from hyrex.runtime.loading import first_use

if TYPE_CHECKING:
    from hyrex.arguments.payload import ArgumentsCodec, ResultCodec

__all__ = ["TaskCoder"]

S = TypeVar("S")
T = TypeVar("T")


class TaskCoder:
    """Encodes and decodes the arguments and the result of one task."""

    __slots__ = (
        "_arguments",
        "_encode_arguments",
        "_encode_given",
        "_result",
        "decode_arguments",
        "decode_lot",
        "decode_result",
        "encode_result",
        "largest_bytes",
        "signature",
    )

    def __init__(self, signature: TaskSignature) -> None:
        self.signature = signature
        self._arguments: ArgumentsCodec | None = None
        self._result: ResultCodec | None = None
        self._encode_given: dict[frozenset[str], Callable[[dict[str, Any]], bytes]] = {}
        self.largest_bytes: Callable[[], int] = lambda: PAYLOAD_LIMIT_BYTES
        """The limit of arguments and results, of those that are larger than most may be."""
        # What the codecs do, once they have done it for the first time.
        self._encode_arguments: Callable[[dict[str, Any]], bytes] = self._first_encode_arguments
        self.decode_arguments: Callable[[bytes], dict[str, Any]] = self._first_decode_arguments
        """Validated arguments by parameter name; raises ArgumentInvalid."""
        self.decode_lot: Callable[[Sequence[bytes]], list[dict[str, Any]] | None] = self._first_decode_lot
        """What decode_arguments returns for each of limits.LOT payloads; None if it must decode them."""
        self.encode_result: Callable[[Any], bytes] = self._first_encode_result
        """The returned value as bytes; raises ResultNotSerializable."""
        self.decode_result: Callable[[bytes], Any] = self._first_decode_result
        """The value of a stored result; raises ResultInvalid."""

    def encode_arguments(self, /, *args: Any, **kwargs: Any) -> bytes:
        """The payload of a call; raises TypeError, ArgumentInvalid or PayloadTooLarge."""
        signature = self.signature
        payload = self._encode_arguments(signature.bind(args, kwargs))
        if len(payload) > PAYLOAD_LIMIT_BYTES:
            checked_payload(signature.task_name, payload, self.largest_bytes())
        return payload

    def encode_given(self, arguments: dict[str, Any]) -> bytes:
        """The payload of a call of which other arguments come later; raises as encode_arguments()."""
        names, signature = frozenset(arguments), self.signature
        if not names:
            return b"{}"
        encode = self._encode_given.get(names)
        if encode is None:
            payload = loaded("hyrex.arguments.payload")
            with first_use():
                encode = self._encode_given[names] = payload.ArgumentsCodec(signature, names).encode
                return checked_payload(signature.task_name, encode(arguments), self.largest_bytes())
        return checked_payload(signature.task_name, encode(arguments), self.largest_bytes())

    def build(self) -> None:
        """Build the models now. Raises TypeError for type hints that cannot work."""
        self._arguments_codec()
        self._result_codec()

    def _arguments_codec(self) -> "ArgumentsCodec":
        if self._arguments is None:
            payload = loaded("hyrex.arguments.payload")
            with first_use():
                self._arguments = payload.ArgumentsCodec(self.signature)
        assert self._arguments is not None
        return self._arguments

    def _result_codec(self) -> "ResultCodec":
        if self._result is None:
            payload = loaded("hyrex.arguments.payload")
            with first_use():
                self._result = payload.ResultCodec(self.signature)
        assert self._result is not None
        return self._result

    def _first_encode_arguments(self, bound: dict[str, Any]) -> bytes:
        encode = self._arguments_codec().encode
        try:
            return _first(encode, bound)
        finally:
            self._encode_arguments = encode

    def _first_decode_arguments(self, payload: bytes) -> dict[str, Any]:
        decode = self._arguments_codec().decode
        try:
            return _first(decode, payload)
        finally:
            self.decode_arguments = decode

    def _first_decode_lot(self, payloads: Sequence[bytes]) -> list[Any] | None:
        with first_use():
            decode = self.decode_lot = self._arguments_codec().lot_reader()
            return decode(payloads)

    def _first_encode_result(self, value: Any) -> bytes:
        encode = self._result_codec().encode
        try:
            return _first(encode, value)
        finally:
            self.encode_result = encode

    def _first_decode_result(self, result: bytes) -> Any:
        decode = self._result_codec().decode
        try:
            return _first(decode, result)
        finally:
            self.decode_result = decode


def _first(convert: Callable[[S], T], value: S) -> T:
    with first_use():
        return convert(value)
