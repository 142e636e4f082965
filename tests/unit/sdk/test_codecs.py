"""Codecs: what is sent and stored is theirs, what is read is the value, and what cannot be read says why."""

import asyncio
import json
import os
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
from tests.unit.sdk.coded_tasks import LIMIT, NEW, app_of


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
