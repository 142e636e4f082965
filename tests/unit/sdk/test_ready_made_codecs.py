"""Compressed, Encrypted and Stored read what they made, and nothing else."""

import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest

from hyrex import PayloadInfo, PayloadTooLarge, PayloadUnavailable, PayloadUnreadable
from hyrex.contrib.compressed import Compressed
from hyrex.contrib.encrypted import Encrypted
from hyrex.contrib.stored import Stored
from hyrex.testing import inline
from tests.unit.sdk.coded_tasks import ARGUMENTS, LIMIT, NEW, OLD, app_of

TEXT: Any = "n" * 32


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


def test_what_a_schedule_sends_again_and_again_is_not_put_elsewhere(tmp_path: Path) -> None:
    codec = Stored(f"file://{tmp_path}/store", above_bytes=1)
    assert codec.encode_lasting(b"content", ARGUMENTS) == b"\0content"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(PayloadTooLarge):
        codec.encode_lasting(b"x" * LIMIT, ARGUMENTS)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Encrypted({}), TypeError),
        (lambda: Encrypted({"": b"n" * 32}), ValueError),
        (lambda: Encrypted({"k": b"short"}), ValueError),
        (lambda: Encrypted({"k": TEXT}), ValueError),
        (lambda: Compressed(level=0), ValueError),
        (lambda: Compressed(above_bytes=-1), ValueError),
        (lambda: Stored(""), ValueError),
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
