"""Codecs: what is sent and stored is theirs, what is read is the value, and what cannot be read says why."""

import asyncio
import json
import os
import tracemalloc
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hyrex import (
    Codec,
    DefinitionError,
    HyrexApp,
    HyrexRegistry,
    PayloadInfo,
    PayloadTooLarge,
    PayloadUnavailable,
    PayloadUnreadable,
    send_many,
    send_many_async,
)
from hyrex.arguments.limits import PAYLOAD_LIMIT_BYTES
from hyrex.backend.encoding import codec_name, encoded
from hyrex.backend.outgoing import Deduplicated, prepare
from hyrex.contrib.compressed import Compressed
from hyrex.contrib.encrypted import Encrypted
from hyrex.contrib.stored import Stored
from hyrex.runs import decode_freely
from hyrex.testing import InlineTasks, inline
from hyrex.transactions.statement import Enqueue
from hyrex.transport.convert import submit_outcome
from hyrex.v1 import task_service_pb2 as pb

ARGUMENTS = PayloadInfo("echo", "arguments")
LIMIT = PAYLOAD_LIMIT_BYTES
TEXT: Any = "n" * 32
OLD, NEW = {"old": b"o" * 32}, {"new": b"n" * 32}


def app_of(codec: Codec | Sequence[Codec] | None) -> tuple[Any, Any]:
    """Tasks of an app with these codecs."""
    hy, app = HyrexRegistry(), HyrexApp("shop", codec=codec)
    app.add_registry(hy)

    @hy.task
    def echo(text: str) -> str:
        return text

    @hy.task
    async def echo_later(text: str) -> str:
        return text

    return echo, echo_later


def stored_result(tasks: InlineTasks, at: int = 0) -> bytes:
    """The result as a broker has it."""
    state = tasks.sent[at]._state
    assert state is not None
    found = state.runs[-1].result
    assert found is not None
    return found


@pytest.mark.parametrize("text", ["short", "long " * 200_000, "secret" + os.urandom(400_000).hex()])
def test_arguments_and_results_come_back_and_are_nowhere_as_they_were(text: str, tmp_path: Path) -> None:
    stored = Stored(f"file://{tmp_path}/store")
    echo, echo_later = app_of([Compressed(), Encrypted(NEW), stored])

    async def send() -> list[str]:
        first = await echo_later.send_async(text)
        (second,) = await send_many_async([echo_later.call(text)])
        return [await first.result_async(), await second.result_async()]

    with inline() as tasks:
        assert echo.send(text).result() == text
        assert [handle.result() for handle in send_many([echo.call(text), echo_later.call(text)])] == [
            text
        ] * 2
        assert asyncio.run(send()) == [text] * 2
    sent = [call._outgoing.payload for call in tasks.calls]
    assert all(len(payload) < 300_000 for payload in sent)
    assert not any(text[:20].encode() in payload for payload in sent)
    assert json.loads(stored_result(tasks))["hyrex.codec"] == "zlib+aes-gcm+stored"
    assert tasks.calls[0].arguments == {"text": text}
    objects = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert bool(objects) is (len(text) > 500_000 and text.startswith("secret"))
    assert not any(text[:20].encode() in each for each in objects)


def test_keys_are_rotated_by_putting_the_new_one_first() -> None:
    before, between, after = Encrypted(OLD), Encrypted({**NEW, **OLD}), Encrypted(NEW)
    sealed = before.encode(b"x", ARGUMENTS)
    assert between.decode(sealed, ARGUMENTS, LIMIT) == b"x"
    assert after.decode(between.encode(b"y", ARGUMENTS), ARGUMENTS, LIMIT) == b"y"
    with pytest.raises(PayloadUnavailable, match="encrypted with the key 'old', and this process has new"):
        after.decode(sealed, ARGUMENTS, LIMIT)


@pytest.mark.parametrize("about", [PayloadInfo("other", "arguments"), PayloadInfo("echo", "result")])
def test_what_is_encrypted_for_one_use_is_none_of_another(about: PayloadInfo) -> None:
    codec = Encrypted(NEW)
    with pytest.raises(PayloadUnreadable, match="do not decrypt with the key 'new'"):
        codec.decode(codec.encode(b"x", ARGUMENTS), about, LIMIT)


@pytest.mark.parametrize("place", [0, 1, 2, 8, -1])
def test_a_changed_byte_is_noticed(place: int) -> None:
    codec = Encrypted({"new": b"n" * 32, "nex": b"x" * 32})
    sealed = bytearray(codec.encode(b"content", ARGUMENTS))
    sealed[place] ^= 1
    with pytest.raises((PayloadUnreadable, PayloadUnavailable)):
        codec.decode(bytes(sealed), ARGUMENTS, LIMIT)


@pytest.mark.parametrize("content", [b"", b"\1", b"\1\3ne", b"\1\3new", b"plain json"])
def test_what_is_not_encrypted_is_not_taken_for_it(content: bytes) -> None:
    with pytest.raises(PayloadUnreadable):
        Encrypted(NEW).decode(content, ARGUMENTS, LIMIT)


def test_a_decompression_bomb_ends_at_the_limit() -> None:
    bomb = b"\1" + zlib.compress(bytes(5 * LIMIT), 1)
    tracemalloc.start()
    try:
        with pytest.raises(PayloadUnreadable, match="decompress to more than 4,194,304 bytes"):
            Compressed().decode(bomb, ARGUMENTS, LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 3 * LIMIT
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("content", [b"", b"\1", b"\1abc", b"\2abc", b"\1" + zlib.compress(b"x" * 99)[:-4]])
def test_no_zlib_data_is_refused(content: bytes) -> None:
    with pytest.raises(PayloadUnreadable, match="no zlib data, or cut off"):
        Compressed().decode(content, ARGUMENTS, LIMIT)


@pytest.mark.parametrize(
    "address", [b"../../etc/passwd", b"/etc/passwd", b"2026-11-27/../x", b"2026-11-27/" + b"a" * 63, b""]
)
def test_an_address_names_nothing_but_our_objects(address: bytes, tmp_path: Path) -> None:
    with pytest.raises(PayloadUnreadable, match="are not what stored makes"):
        Stored(f"file://{tmp_path}").decode(b"\1" + address, ARGUMENTS, LIMIT)


def test_an_object_that_is_gone_changed_or_too_large_is_final_and_a_store_that_is_away_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = Stored(f"file://{tmp_path}/store", above_bytes=10)
    sent = codec.encode(b"twenty bytes or more", ARGUMENTS)
    assert codec.encode(b"twenty bytes or more", ARGUMENTS) == sent
    (path,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    with pytest.raises(PayloadUnreadable, match="more than 15 bytes in the store"):
        codec.decode(sent, ARGUMENTS, 15)
    path.write_bytes(b"other content here..")
    with pytest.raises(PayloadUnreadable, match="changed in the store"):
        codec.decode(sent, ARGUMENTS, LIMIT)
    path.unlink()
    with pytest.raises(PayloadUnreadable, match="no longer in the store"):
        codec.decode(sent, ARGUMENTS, LIMIT)

    def away(*_: object, **__: object) -> None:
        raise ConnectionError("http://user:password@store")

    monkeypatch.setattr(codec._store, "cat_file", away)
    monkeypatch.setattr(codec._store, "pipe_file", away)
    with pytest.raises(PayloadUnavailable, match=r"could not be got from the store \(.*\): ConnectionError$"):
        codec.decode(sent, ARGUMENTS, LIMIT)
    echo, _ = app_of(codec)
    with inline() as tasks, pytest.raises(PayloadUnavailable, match="could not be put into the store"):
        echo.send("twenty bytes or more")
    assert tasks.sent == []


def test_an_object_stays_whole_while_the_same_content_is_put_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its task may be read at that moment, and what is cut off fails it for good."""
    codec, content = Stored(f"file://{tmp_path}/store", above_bytes=10), b"x" * 100
    address = codec.encode(content, ARGUMENTS)

    def cut_off(path: str, content: bytes) -> None:
        Path(path).write_bytes(content[:50])
        assert codec.decode(address, ARGUMENTS, LIMIT) == b"x" * 100
        raise OSError("no space left")

    monkeypatch.setattr(codec._store, "pipe_file", cut_off)
    with pytest.raises(PayloadUnavailable, match="OSError"):
        codec.encode(content, ARGUMENTS)
    assert codec.decode(address, ARGUMENTS, LIMIT) == content
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1, "nothing is left of it"


def test_sizes_are_checked_before_and_after(tmp_path: Path) -> None:
    echo, _ = app_of(Stored(f"file://{tmp_path}", largest_bytes=6_000_000))
    smaller, _ = app_of(Compressed())
    secret, _ = app_of(Encrypted(NEW))
    noise = os.urandom(2_500_000).hex()
    with inline():
        assert echo.send(noise).result() == noise
        with pytest.raises(PayloadTooLarge, match=r"take 6,000,0.. bytes, the limit is 6,000,000"):
            echo.send("x" * 6_000_000)
        with pytest.raises(PayloadTooLarge, match="the limit is 4,194,304"):
            smaller.send(noise)
        with pytest.raises(PayloadTooLarge, match=r"take 4,194,3.. bytes"):  # by what encryption adds
            secret.send("x" * (LIMIT - len('{"text":""}')))
        with pytest.raises(PayloadTooLarge):
            smaller.call("x" * 5_000_000)


def test_what_a_schedule_sends_again_and_again_is_not_put_elsewhere(tmp_path: Path) -> None:
    codec = Stored(f"file://{tmp_path}/store", above_bytes=1)
    assert codec.encode_lasting(b"content", ARGUMENTS) == b"\0content"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(PayloadTooLarge):
        codec.encode_lasting(b"x" * LIMIT, ARGUMENTS)


def test_a_handle_without_the_app_shows_what_is_stored_or_says_what_is_missing() -> None:
    echo, _ = app_of(Compressed())
    bare, _ = app_of(None)
    with inline() as tasks:
        echo.send("x")
    stored = stored_result(tasks)
    assert decode_freely(stored)["hyrex.codec"] == "zlib"
    with pytest.raises(PayloadUnavailable, match="import the one that has it"):
        bare._decode_result(stored)
    assert bare._decode_result(b'"plain"') == "plain"
    assert echo._decode_result(b'"plain"') == "plain"  # of a run before the app had a codec


@pytest.mark.parametrize(
    "stored", [b'{"hyrex.codec":"zlib"}', b'{"hyrex.codec":"zlib","data":"?"}', b'{"hyrex.codec":']
)
def test_a_result_that_only_looks_encoded_is_refused(stored: bytes) -> None:
    echo, _ = app_of(Compressed())
    with pytest.raises(PayloadUnreadable, match="looks like an encoded one"):
        echo._decode_result(stored)


def test_what_is_sent_in_a_transaction_names_its_codecs_too() -> None:
    echo, _ = app_of([Compressed(), Encrypted(NEW)])
    bare, _ = app_of(None)
    payload = encoded(echo._spec, b'{"text":"x"}')
    call = Enqueue.of(prepare(echo._spec, payload), "hyrex")
    assert json.loads(call.options)["codec"] == codec_name(echo._spec) == "zlib+aes-gcm"
    assert "codec" not in json.loads(Enqueue.of(prepare(bare._spec, b"{}"), "hyrex").options)


def test_an_idempotency_key_warns_of_other_arguments_only_where_bytes_can_tell() -> None:
    said = pb.SubmitResult(outcome=pb.SUBMIT_OUTCOME_DEDUPLICATED, task_id="x", payload_differs=True)
    told = []
    for codec in (None, Compressed(), Encrypted(NEW)):
        echo, _ = app_of(codec)
        outcome = submit_outcome(prepare(echo._spec, b""), said)
        assert isinstance(outcome, Deduplicated)
        told.append(outcome.arguments_differ)
    assert told == [True, True, False]


class Named(Compressed):
    name = "Wrong Name"


class Unnamed(Codec):
    def encode(self, content: bytes, about: PayloadInfo) -> bytes:
        raise LookupError("shows content")

    def decode(self, content: bytes, about: PayloadInfo, most_bytes: int) -> bytes:
        return content


class Broken(Unnamed):
    name = "broken"


@pytest.mark.parametrize(
    ("codec", "error", "said"),
    [
        ([], TypeError, "got an empty one"),
        ("zlib", TypeError, "must be a Codec or a sequence of them, got 'z'"),
        (Compressed, TypeError, "must be a Codec or a sequence"),
        (Unnamed(), TypeError, r"Unnamed\.name must be 1\.\.30 of a-z"),
        (Named(), TypeError, "got 'Wrong Name'"),
        ([Compressed(), Compressed()], DefinitionError, "has a name twice"),
        (
            [Encrypted(NEW), Compressed()],
            DefinitionError,
            "wrong order: .'aes-gcm', 'zlib'.; make smaller, then",
        ),
    ],
)
def test_codecs_that_cannot_work_are_refused_at_definition(
    codec: Any, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        HyrexApp("shop", codec=codec)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Encrypted({}), TypeError),
        (lambda: Encrypted({"": b"n" * 32}), ValueError),
        (lambda: Encrypted({"k": b"short"}), ValueError),
        (lambda: Encrypted({"k": TEXT}), ValueError),
        (lambda: Compressed(level=0), ValueError),
        (lambda: Compressed(above_bytes=-1), ValueError),
        (lambda: Stored("memory://x", above_bytes=LIMIT), ValueError),
        (lambda: Stored("memory://x", largest_bytes=1), ValueError),
    ],
)
def test_options_that_cannot_work_are_refused(make: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        make()


def test_no_key_is_shown_where_one_is_wrong() -> None:
    with pytest.raises(ValueError, match="the key 'k' must be bytes of length") as told:
        Encrypted({"k": b"hunter2"})
    assert "hunter2" not in str(told.value)


def test_a_registry_in_apps_of_different_codecs_is_refused_when_something_is_sent() -> None:
    hy = HyrexRegistry()
    for codec in (Compressed(), None):
        HyrexApp("shop", codec=codec).add_registry(hy)

    @hy.task
    def work() -> None: ...

    with inline(), pytest.raises(DefinitionError, match="in apps with different codecs: None, zlib"):
        work.send()


def test_an_error_of_a_codec_is_told_by_its_name_and_sends_nothing() -> None:
    echo, _ = app_of(Broken())
    with inline() as tasks, pytest.raises(PayloadUnavailable, match=r"codec 'broken' raised LookupError$"):
        echo.send("x")
    assert tasks.sent == []


def test_a_run_that_nobody_can_decode_fails_for_good_and_its_handler_hears_of_it() -> None:
    heard: list[BaseException] = []
    hy, app = HyrexRegistry(), HyrexApp("shop", codec=Encrypted(NEW))
    app.add_registry(hy)

    @hy.task(max_retries=3, on_error=heard.append)
    def echo(text: str) -> str:
        return text

    with inline(raise_failures=False) as tasks:
        echo.send("x")
        payload = bytearray(tasks.calls[0]._outgoing.payload)
        payload[-1] ^= 1
        tasks._states.clear()
        tasks.calls[0]._outgoing.payload = bytes(payload)
        tasks.store([tasks.calls[0]._outgoing])
    (run,) = tasks.sent[-1].task_runs
    assert run.error is not None
    assert (run.status, run.error.type) == ("failed", "PayloadUnreadable")
    assert [type(error) for error in heard] == [PayloadUnreadable]
