"""Whoever has no token costs a broker nothing: what is sent is neither received, inflated nor parsed."""

import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import grpc
import pytest
from google.protobuf import descriptor_pool

from hyrex_broker.service.open_calls import MOST_STREAMS_EACH
from hyrex_broker.service.server import SERVICES
from tests.hostile.victim import BEARER, WITHIN_S, Victim, at_once, code_of, open_channel, send
from tests.support.eventually import eventually

SUBMIT: Final = "/hyrex.v1.TaskService/SubmitTasks"
STREAM: Final = "/hyrex.v1.TaskService/StreamSubmit"
WORK: Final = "/hyrex.v1.WorkerService/Work"
HEALTH: Final = "/grpc.health.v1.Health/Check"
WATCH: Final = "/grpc.health.v1.Health/Watch"
REFLECTION: Final = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
CALLS: Final = 100
UNKNOWN_FIELDS: Final = b"\x0a\x00" * 7_800_000
ONE_LARGE_FIELD: Final = b"\x0a\x80\x80\xc0\x07" + bytes(15 * 2**20)


@pytest.mark.parametrize("method", [SUBMIT, STREAM, WORK, "/nobody/knows"])
def test_a_hundred_calls_without_a_token_take_no_memory(victim: Victim, method: str) -> None:
    with open_channel(victim.address) as channel, victim.watched() as damage:
        codes = at_once([partial(send, channel, method, ONE_LARGE_FIELD)] * CALLS)
    assert set(codes) <= {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED}
    damage.is_little(peak_mib=20)


@pytest.mark.parametrize("metadata", [(), BEARER], ids=["without", "with a token"])
def test_a_hundred_deflated_bodies_are_not_inflated(
    victim: Victim, metadata: tuple[tuple[str, str], ...]
) -> None:
    """15 KiB on the wire became 720 MiB each. Nobody of ours compresses, so nobody may."""
    deflated = partial(send, metadata=metadata, compression=grpc.Compression.Gzip)
    with open_channel(victim.address) as channel, victim.watched() as damage:
        codes = at_once([partial(deflated, channel, SUBMIT, UNKNOWN_FIELDS)] * CALLS)
    assert set(codes) == {grpc.StatusCode.UNIMPLEMENTED}
    damage.is_little(peak_mib=20)


@pytest.mark.parametrize("method", [HEALTH, WATCH, REFLECTION])
def test_what_needs_no_token_receives_one_large_body_at_a_time(victim: Victim, method: str) -> None:
    """Of these the body must be received. It is bounded by one at a time, whatever gRPC keeps of it."""
    with open_channel(victim.address) as channel, victim.watched() as damage:
        codes = at_once([partial(send, channel, method, ONE_LARGE_FIELD)] * 20)
    assert set(codes) <= {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}
    damage.is_little(peak_mib=150)


def test_calls_that_never_say_what_they_want_do_not_keep_a_probe_from_its_answer(victim: Victim) -> None:
    silence = threading.Event()

    def nothing_yet() -> Iterator[bytes]:
        silence.wait(WITHIN_S)
        yield b""

    attackers = [open_channel(victim.address) for _ in range(10)]
    with open_channel(victim.address) as channel, victim.watched() as damage:
        for attacker in attackers:
            stream: Any = attacker.stream_stream
            stream(HEALTH)(nothing_yet(), timeout=WITHIN_S)
        began = time.monotonic()
        assert send(channel, HEALTH, b"")
        assert time.monotonic() - began < 10
        silence.set()
        for attacker in attackers:
            attacker.close()
    damage.is_little(peak_mib=20)


def test_watches_of_health_are_bounded_for_each_connection(victim: Victim) -> None:
    with open_channel(victim.address) as channel, victim.watched() as damage:
        stream: Any = channel.stream_stream
        watches = [stream(WATCH)(iter([b""]), timeout=WITHIN_S) for _ in range(MOST_STREAMS_EACH)]
        assert [next(watch) for watch in watches]
        one_more = partial(send, channel, WATCH, b"")
        assert code_of(one_more) is grpc.StatusCode.RESOURCE_EXHAUSTED
        with open_channel(victim.address) as another:
            elsewhere: Any = another.stream_stream
            assert next(elsewhere(WATCH)(iter([b""]), timeout=WITHIN_S))
        watches.pop().cancel()
        eventually(lambda: is_answered(stream(WATCH)(iter([b""]), timeout=WITHIN_S)))
    damage.is_little(peak_mib=20)


@pytest.mark.parametrize("method", [b"/\xff\xfe/\xff", b"/hyrex.v1.TaskService/\xff", b"/", b"//", b"/a"])
def test_a_method_without_a_proper_name_is_unknown(victim: Victim, method: bytes) -> None:
    """One such call, from anybody, ended the loop that accepts calls: the broker never answered again."""
    with open_channel(victim.address) as channel, victim.watched() as damage:
        assert code_of(partial(send, channel, method, b"")) is grpc.StatusCode.UNIMPLEMENTED
    damage.is_little(peak_mib=20)


@pytest.mark.parametrize("body", [b"", b"\xff\xff\xff"])
def test_every_call_is_refused_before_it_is_understood(victim: Victim, body: bytes) -> None:
    with open_channel(victim.address) as channel, victim.watched() as damage:
        for method in methods():
            assert code_of(partial(send, channel, method, body)) is grpc.StatusCode.UNAUTHENTICATED
    damage.is_little(peak_mib=20)


def is_answered(call: Any) -> bool:
    """Return True if a stream begins with an answer."""
    try:
        return bool(next(call))
    except grpc.RpcError:
        return False


def methods() -> list[str]:
    """All that need a token."""
    pool = descriptor_pool.Default()
    services = [pool.FindServiceByName(name) for name in SERVICES]
    return [f"/{service.full_name}/{method.name}" for service in services for method in service.methods]
