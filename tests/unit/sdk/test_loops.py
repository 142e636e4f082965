"""Hyrex's own loops are uvloop's where it is installed, and work without it."""

import asyncio
import sys

import pytest

from hyrex.runtime import loops


async def running() -> str:
    return type(asyncio.get_running_loop()).__module__


def test_uvloop_is_used_where_it_is_installed() -> None:
    pytest.importorskip("uvloop")
    assert loops.run(running()).startswith("uvloop")


def test_asyncio_does_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert loops.run(running()).startswith("asyncio")
