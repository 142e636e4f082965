"""Counts the fields of message bodies before they are parsed.

Parsing can turn one byte into 50 bytes of memory: 15 MiB of empty tasks took 720 MiB. So the fields of a
large body are counted first, and a body with more fields than its type allows is refused unparsed. Small
bodies cannot grow much, and are not checked.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError

from hyrex_broker.domain.errors import TooManyItems

LOOK_FROM_BYTES: Final = 64 * 1024
"""Smaller bodies grow to a few MiB at most, and are not checked."""
_NESTED_FROM_BYTES: Final = 4096
"""Nested messages are checked from this size on: a thousand of smaller ones stay below 4 MiB together."""
_SPARE: Final = 24
"""Allowed besides: fields of later versions, and fields that are not repeated."""
_LIMIT: Final = 1000
_LIMITS: Final[Mapping[str, int]] = MappingProxyType(
    {
        # What introduction() accepts: definitions, queues and held leases.
        "hyrex.v1.Hello": 121_100,
        "hyrex.v1.Heartbeat": 100_000,
        # Headers and labels may have 64 KiB each.
        "hyrex.v1.NewTask": 20_000,
        "hyrex.v1.Headers": 20_000,
        # A payload, headers and a key for each of 1,000 tasks.
        "hyrex.v1.TaskGroup": 3_000,
    }
)
_LIMIT_IN_ALL: Final = 250_000
_CONTINUATION: Final = bytes(range(0x80, 0x100))
_TEXTS: Final = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
_WIDTHS: Final = MappingProxyType(
    {
        FieldDescriptor.TYPE_DOUBLE: 8, FieldDescriptor.TYPE_FIXED64: 8, FieldDescriptor.TYPE_SFIXED64: 8,
        FieldDescriptor.TYPE_FLOAT: 4, FieldDescriptor.TYPE_FIXED32: 4, FieldDescriptor.TYPE_SFIXED32: 4,
    }
)  # fmt: skip


def decoder(deserializer: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    """Wrap `deserializer` (a message's FromString) with the check of the body.

    The function returned raises TooManyItems for a body with too many fields, DecodeError for an invalid one.
    """
    if deserializer is None:
        return bytes
    parse, descriptor = deserializer, _descriptor_of(deserializer)

    def decode(body: bytes) -> Any:
        if len(body) > LOOK_FROM_BYTES:
            look(body, descriptor)
        return parse(body)

    return decode


def _descriptor_of(deserializer: Callable[[bytes], Any]) -> Descriptor:
    message: Any = getattr(deserializer, "__self__", None)
    descriptor: Descriptor = message.DESCRIPTOR
    return descriptor


def look(body: bytes, descriptor: Descriptor) -> None:
    """Count the fields of a message and of the large messages in it. Raises TooManyItems, DecodeError."""
    try:
        _Look(body).into(descriptor, 0, len(body))
    except IndexError:
        raise DecodeError("the message ends within a field") from None


class _Look:
    """The check of one body."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._left = _LIMIT_IN_ALL

    def into(self, descriptor: Descriptor, at: int, stop: int) -> None:
        """Count the fields of the message between two places."""
        body, fields, count = self._body, descriptor.fields_by_number, 0
        limit = _LIMITS.get(descriptor.full_name, _LIMIT)
        most = min(limit + _SPARE, self._left)
        while at < stop:
            tag = body[at]  # short numbers are read in place, which takes half the time
            at += 1
            if tag & 0x80:
                tag, at = _varint(body, at - 1)
            count += 1
            if count > most:
                raise TooManyItems(count, limit)
            match tag & 7:
                case 2:  # text, bytes, a message, or packed numbers
                    size = body[at]
                    at += 1
                    if size & 0x80:
                        if body[at] & 0x80:
                            size, at = _varint(body, at - 1)
                        else:
                            size, at = (size & 0x7F) | body[at] << 7, at + 1
                    if size >= _NESTED_FROM_BYTES and (field := fields.get(tag >> 3)) is not None:
                        count += self._inside(field, at, min(at + size, stop))
                        most = min(most, self._left)
                    at += size
                case 0:
                    _, at = _varint(body, at)
                case 1:
                    at += 8
                case 5:
                    at += 4
                case 3 | 4:
                    pass  # a group: its fields are counted with the others
                case _:
                    raise DecodeError("a field has no valid wire type")
        if count > most:
            raise TooManyItems(count, limit)
        self._left -= count

    def _inside(self, field: FieldDescriptor, at: int, stop: int) -> int:
        """Check a nested message. Return how many more fields it has as packed numbers."""
        if field.message_type is not None:
            self.into(field.message_type, at, stop)
            return 0
        if field.type in _TEXTS:
            return 0
        width = _WIDTHS.get(field.type)
        return (stop - at) // width if width else len(self._body[at:stop].translate(None, _CONTINUATION))


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """A varint and the position after it."""
    byte = body[at]
    if byte < 0x80:
        return byte, at + 1
    value, shift = byte & 0x7F, 7
    for place in range(at + 1, at + 10):
        byte = body[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place + 1
        shift += 7
    raise DecodeError("a number is longer than ten bytes")
