"""Any bytes in any RPC get a typed status: before the token is shown, after it, on both streams."""

import random
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from hyrex_broker.service.server import SERVICES
from tests.hostile.victim import BEARER, Victim, at_once, open_channel, send
from tests.integration.storage.stage import make_id

OPEN: Final = ("grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection")
DRAIN: Final = "/hyrex.v1.AdminService/DrainBroker"
"""Proper calls of it end the broker."""
SUBMIT: Final = "/hyrex.v1.TaskService/StreamSubmit"
ENDLESS: Final = {"/grpc.health.v1.Health/Watch", "/hyrex.v1.AdminService/WatchCluster"}
EACH: Final = 60
TYPED: Final = {
    grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ALREADY_EXISTS,
}  # fmt: skip
TEXTS: Final = (
    "",
    "\0",
    "x" * 300,
    "-1",
    "9" * 18,
    "9" * 30,
    "*",
    "a\ud7ff\U0010ffff",
    "\x1b[2J",
    "%s{}",
    make_id(),
)
NUMBERS: Final = (0, 1, -1, 2, 5, 1000, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63))


def methods(*services: str) -> dict[str, type[Message]]:
    """Every RPC, and the type of what it is sent."""
    pool = descriptor_pool.Default()
    return {
        f"/{name}/{method.name}": message_factory.GetMessageClass(method.input_type)
        for name in services
        for method in pool.FindServiceByName(name).methods
    }


def bodies(kind: type[Message], chance: random.Random) -> Iterator[bytes]:
    """Garbage, halves of messages, and messages of all fields with values from the edges."""
    for _ in range(EACH):
        whole = filled(kind, chance).SerializeToString()
        yield whole
        yield whole[: chance.randrange(len(whole) + 1)]
        yield chance.randbytes(chance.randrange(200))


def filled(kind: type[Message], chance: random.Random, depth: int = 0) -> Message:
    message = kind()
    fields: Any = kind.DESCRIPTOR.fields
    for field in fields:
        if chance.random() < 0.4:
            fill(message, field, chance, depth)
    return message


def fill(message: Message, field: FieldDescriptor, chance: random.Random, depth: int) -> None:
    there: Any = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        there[chance.choice(TEXTS)] = chance.choice(TEXTS)
    elif field.message_type is not None:
        if depth < 4:
            kind = message_factory.GetMessageClass(field.message_type)
            (there.add() if field.is_repeated else there).MergeFrom(filled(kind, chance, depth + 1))
    elif field.is_repeated:
        there.extend(value(field, chance) for _ in range(3))
    else:
        setattr(message, field.name, value(field, chance))


def value(field: FieldDescriptor, chance: random.Random) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return chance.randbytes(9) if field.type == FieldDescriptor.TYPE_BYTES else chance.choice(TEXTS)
        case FieldDescriptor.CPPTYPE_BOOL:
            return chance.random() < 0.5
        case FieldDescriptor.CPPTYPE_ENUM | FieldDescriptor.CPPTYPE_INT32:
            return chance.choice([number for number in NUMBERS if -(2**31) <= number < 2**31])
        case FieldDescriptor.CPPTYPE_UINT32 | FieldDescriptor.CPPTYPE_UINT64:
            return abs(chance.choice(NUMBERS[:7]))
        case _:
            return chance.choice(NUMBERS)


@pytest.mark.parametrize("method", methods(*SERVICES))
def test_no_bytes_are_understood_without_a_token(victim: Victim, method: str) -> None:
    kind, chance = methods(*SERVICES)[method], random.Random(method)
    with open_channel(victim.address) as channel, victim.watched() as damage:
        codes = at_once([partial(send, channel, method, body) for body in bodies(kind, chance)])
    assert set(codes) == {grpc.StatusCode.UNAUTHENTICATED}
    damage.is_little(peak_mib=20)


@pytest.mark.parametrize("method", sorted(methods(*SERVICES, *OPEN).keys() - ENDLESS))
def test_any_bytes_get_a_typed_status(victim: Victim, method: str) -> None:
    kind, chance = methods(*SERVICES, *OPEN)[method], random.Random(method)
    found = [body for body in bodies(kind, chance) if method != DRAIN or not is_message(kind, body)]
    with open_channel(victim.address) as channel, victim.watched() as damage:
        codes = at_once([partial(send, channel, method, body, metadata=BEARER) for body in found])
    assert set(codes) <= TYPED, {code: codes.count(code) for code in codes}
    damage.is_little(peak_mib=60)


@pytest.mark.parametrize("method", [SUBMIT, "/hyrex.v1.WorkerService/Work"])
def test_any_frames_of_a_stream_get_a_typed_status(victim: Victim, method: str) -> None:
    kind, chance = methods(*SERVICES)[method], random.Random(method)
    found = list(bodies(kind, chance))
    chance.shuffle(found)
    with open_channel(victim.address) as channel, victim.watched() as damage:
        frames = [found[start : start + 4] for start in range(0, len(found), 4)]
        codes = at_once([partial(send, channel, method, *some, metadata=BEARER) for some in frames])
    assert set(codes) <= TYPED, {code: codes.count(code) for code in codes}
    damage.is_little(peak_mib=60)


@pytest.mark.parametrize("method", methods(*SERVICES, *OPEN))
def test_a_call_without_a_message_gets_a_status(victim: Victim, method: str) -> None:
    """A unary call of none got no status at all, and stayed with the broker until its deadline."""
    with open_channel(victim.address) as channel, victim.watched() as damage:
        (code,) = at_once([partial(send, channel, method, metadata=BEARER)])
    assert code in TYPED
    damage.is_little(peak_mib=20)


@pytest.mark.parametrize("last", [b"\xff", b"\x12\x00" * 40_000], ids=["garbage", "too many tasks"])
def test_a_stream_that_is_refused_while_it_is_answered_gets_its_status(victim: Victim, last: bytes) -> None:
    """A write that was cancelled under way left gRPC without a status to send: the caller waited for ever."""
    refused = partial(send, metadata=BEARER)
    with open_channel(victim.address) as channel, victim.watched() as damage:
        calls = [partial(refused, channel, SUBMIT, *[b""] * count, last) for count in range(1, 6)]
        codes = at_once(calls * 20)
    assert set(codes) <= {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}
    damage.is_little(peak_mib=60)


def is_message(kind: type[Message], body: bytes) -> bool:
    try:
        kind.FromString(body)
    except Exception:
        return False
    return True
