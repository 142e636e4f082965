"""gRPC ignores a channel option that it does not know, without a word: each that we set is one it reads."""

import re
from pathlib import Path

import grpc._cython
import pytest

ROOT = Path(__file__).resolve().parents[2]
OPTION = re.compile(r"\(\s*\"(grpc\.[a-z0-9_.]+)\",")


def options() -> dict[str, Path]:
    """Every option that stands in our code, and a file where it does."""
    found: dict[str, Path] = {}
    for folder in ("hyrex", "broker", "tests", "benchmarks", "examples", "scripts"):
        for path in (ROOT / folder).rglob("*.py"):
            found |= dict.fromkeys(OPTION.findall(path.read_text()), path.relative_to(ROOT))
    return found


def read_by_grpc() -> bytes:
    """The compiled library: the names that it looks for are in it as they stand."""
    (library,) = Path(grpc._cython.__path__[0]).glob("cygrpc*.so")
    return library.read_bytes()


def is_read(option: str, library: bytes) -> bool:
    return f"{option}\0".encode() in library


def test_every_channel_option_is_read_by_the_installed_grpc() -> None:
    library, known = read_by_grpc(), options()
    assert {"grpc.keepalive_time_ms", "grpc.max_concurrent_streams"} <= known.keys()
    ignored = {option: str(path) for option, path in known.items() if not is_read(option, library)}
    assert not ignored


@pytest.mark.parametrize("option", ["grpc.http2.min_recv_ping_interval_without_data_ms", "grpc.no_such"])
def test_a_wrong_name_would_be_noticed(option: str) -> None:
    assert not is_read(option, read_by_grpc())
