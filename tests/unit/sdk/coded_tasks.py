"""Tasks of an app with codecs, and what codecs are told and given."""

from collections.abc import Sequence
from typing import Any

from hyrex import Codec, HyrexApp, HyrexRegistry, PayloadInfo
from hyrex.arguments.limits import PAYLOAD_LIMIT_BYTES

ARGUMENTS = PayloadInfo("echo", "arguments")
LIMIT = PAYLOAD_LIMIT_BYTES
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
