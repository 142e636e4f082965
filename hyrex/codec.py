"""Codecs: what an app does to the bytes of arguments and results before they leave its processes.

Arguments are sent with the names of their codecs in the protocol's field `codec`. A result is stored as the
JSON object {"hyrex.codec": names, "data": base64}, since results have no such field: see docs/adr/0018.
"""

import binascii
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, Literal, NamedTuple, TypeVar

from hyrex.arguments.limits import PAYLOAD_LIMIT_BYTES
from hyrex.errors import DefinitionError, HyrexError, PayloadTooLarge, PayloadUnavailable, PayloadUnreadable

__all__ = ["CODECS", "RESULT_MARK", "Codec", "Codecs", "PayloadInfo", "checked_codecs", "waits"]

T = TypeVar("T")

RESULT_MARK: Final = b'{"hyrex.codec":'
NAME_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-.")
NAME_LENGTH: Final = 30
CODECS: Final[list[None]] = []
"""One for each app with codecs: empty in a process that has none."""


class PayloadInfo(NamedTuple):
    """Which bytes these are. An id is not among it, since a replay has the same arguments under another."""

    task_name: str
    kind: Literal["arguments", "result"]


class Codec(ABC):
    """One step of what is done to payloads. Its objects are used by several threads at a time."""

    name: ClassVar[str]
    """Sent with each payload, and looked up by who reads it: letters a-z, digits, "-" and "."."""
    stage: ClassVar[int] = 0
    """Where it may stand: 1 makes smaller, 2 encrypts, 3 puts elsewhere, in this order; 0 anywhere."""
    largest_bytes: int = PAYLOAD_LIMIT_BYTES
    """The largest content that it takes."""
    blocking: ClassVar[bool] = False
    """It waits for others (a network), so it is called in a thread where an event loop runs."""
    repeatable: ClassVar[bool] = True
    """The same content becomes the same bytes, so that those of two sends can be compared."""

    @abstractmethod
    def encode(self, content: bytes, about: PayloadInfo) -> bytes:
        """What is sent or stored instead. Raises PayloadUnavailable if it cannot now."""

    @abstractmethod
    def decode(self, content: bytes, about: PayloadInfo, most_bytes: int) -> bytes:
        """What was encoded, if it has at most `most_bytes`.

        Raises PayloadUnreadable if nobody can decode it, PayloadUnavailable if not here or not now.
        """

    def encode_lasting(self, content: bytes, about: PayloadInfo) -> bytes:
        """As encode(), for what is sent again and again (by a schedule): nothing that will be deleted."""
        return self.encode(content, about)


class Codecs:
    """The codecs of an app, in the order in which they encode."""

    def __init__(self, steps: Sequence[Codec]) -> None:
        self._steps = tuple(steps)
        self._by_name = {step.name: step for step in steps}
        self.name = "+".join(self._by_name)
        self.largest_bytes = max(step.largest_bytes for step in steps)
        self.blocking = any(step.blocking for step in steps)
        self.repeatable = all(step.repeatable for step in steps)

    def encode(self, content: bytes, about: PayloadInfo, *, lasting: bool = False) -> bytes:
        """Raises PayloadTooLarge for what is too large before or after it, PayloadUnavailable."""
        _check_size(about, content, self.largest_bytes)
        for step in self._steps:
            content = _guarded(step, step.encode_lasting if lasting else step.encode, content, about)
        _check_size(about, content, PAYLOAD_LIMIT_BYTES)
        return content

    def decode(self, names: str, content: bytes, about: PayloadInfo) -> bytes:
        """Decode what codecs of these names (with "+" between) have encoded.

        Raises PayloadUnreadable, PayloadUnavailable.
        """
        for name in reversed(names.split("+")):
            step = self._by_name.get(name)
            if step is None:
                raise PayloadUnavailable(
                    f"{about.kind} of {about.task_name} are encoded by {names!r}, and this app has no codec "
                    f"{name!r}, only {self.name!r}: give it to HyrexApp(codec=)"
                )
            content = _guarded(step, step.decode, content, about, self.largest_bytes)
        return content

    def encode_result(self, result: bytes, task_name: str) -> bytes:
        """A result as it is stored."""
        content = self.encode(result, PayloadInfo(task_name, "result"))
        data = binascii.b2a_base64(content, newline=False)
        return b'%s"%s","data":"%s"}' % (RESULT_MARK, self.name.encode(), data)

    def decode_result(self, stored: bytes, task_name: str) -> bytes:
        """What encode_result() has encoded. Raises PayloadUnreadable, PayloadUnavailable."""
        names, between, data = stored[len(RESULT_MARK) + 1 : -2].partition(b'","data":"')
        try:
            content = binascii.a2b_base64(data, strict_mode=True)
        except binascii.Error:
            between = b""
        if not between:
            raise PayloadUnreadable(f"result of {task_name} looks like an encoded one and is none")
        return self.decode(names.decode(), content, PayloadInfo(task_name, "result"))


def waits(decode: Callable[[bytes], Any]) -> bool:
    """Return True if this method of a task may wait for others when it decodes a result."""
    stack = getattr(getattr(decode, "__self__", None), "_stack", None)
    return stack is not None and stack.codecs is not None and bool(stack.codecs.blocking)


def checked_codecs(given: object) -> Codecs | None:
    """The codecs that an app is given: one, or several in order. Raises TypeError, DefinitionError."""
    if given is None:
        return None
    steps: list[Any] = list(given) if isinstance(given, Sequence) else [given]
    if not steps:
        raise TypeError("codec must be a Codec or a sequence of them, got an empty one")
    for step in steps:
        if not isinstance(step, Codec):
            raise TypeError(f"codec must be a Codec or a sequence of them, got {step!r}")
        name = getattr(step, "name", None)
        if (
            not isinstance(name, str)
            or not 1 <= len(name) <= NAME_LENGTH
            or not NAME_CHARACTERS.issuperset(name)
        ):
            raise TypeError(
                f"{type(step).__name__}.name must be 1..{NAME_LENGTH} of a-z, 0-9, '-', '.', got {name!r}"
            )
    if len({step.name for step in steps}) < len(steps):
        raise DefinitionError(f"codec has a name twice: {[step.name for step in steps]}")
    stages = [step.stage for step in steps if step.stage]
    if stages != sorted(stages):
        raise DefinitionError(
            f"codec is in a wrong order: {[step.name for step in steps]}; make smaller, then encrypt, then "
            "put elsewhere, or what was to be secret is stored as it is"
        )
    return Codecs(steps)


def _check_size(about: PayloadInfo, content: bytes, most_bytes: int) -> None:
    if len(content) > most_bytes:
        raise PayloadTooLarge(about.task_name, len(content), most_bytes)


def _guarded(step: Codec, call: Callable[..., T], *args: Any) -> T:
    """Have what a codec raises say which it was."""
    try:
        return call(*args)
    except HyrexError:
        raise
    except Exception as error:
        raise PayloadUnavailable(f"the codec {step.name!r} raised {type(error).__name__}") from error
