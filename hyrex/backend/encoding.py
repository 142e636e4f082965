"""Encodes the arguments of what is sent by the codecs of its app, if that has any."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from hyrex.backend.send_spec import SendSpec
from hyrex.codec import PayloadInfo

__all__ = ["codec_name", "encoded", "encoded_many", "off_loop"]

T = TypeVar("T")


def codec_name(spec: SendSpec) -> str:
    """The names of its codecs, as the protocol has them; empty for none."""
    codecs = spec.task._stack.codecs
    return "" if codecs is None else codecs.name


def encoded(spec: SendSpec, payload: bytes, *, lasting: bool = False) -> bytes:
    """The payload as it is sent. Raises PayloadTooLarge, PayloadUnavailable."""
    codecs = spec.task._stack.codecs
    if codecs is None:
        return payload
    return codecs.encode(payload, PayloadInfo(spec.config.name, "arguments"), lasting=lasting)


def encoded_many(specs: Sequence[SendSpec], payloads: Sequence[bytes]) -> list[bytes]:
    """All payloads; `specs`: one for all, or one for each."""
    return [encoded(specs[at if len(specs) > 1 else 0], payload) for at, payload in enumerate(payloads)]


async def off_loop(specs: Sequence[SendSpec], encode: Callable[[], T]) -> T:
    """Call it, in a thread if one of the codecs waits for others."""
    waits = any(codecs.blocking for spec in specs if (codecs := spec.task._stack.codecs) is not None)
    return await asyncio.to_thread(encode) if waits else encode()
