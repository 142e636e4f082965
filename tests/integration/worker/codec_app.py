"""Tasks whose payloads are compressed, encrypted by the keys of KEYS, and put into STORE if large."""

import os

from hyrex import HyrexApp, HyrexRegistry
from hyrex.contrib.compressed import Compressed
from hyrex.contrib.encrypted import Encrypted
from hyrex.contrib.stored import Stored


def codecs() -> list[Compressed | Encrypted | Stored]:
    """Those of the app; keys are named by letters, which they consist of."""
    keys = {name: name.encode() * 32 for name in os.environ.get("KEYS", "b")}
    store = os.environ.get("STORE", "/nonexistent")
    return [Compressed(), Encrypted(keys), Stored(f"file://{store}", above_bytes=10_000)]


hy = HyrexRegistry()
app = HyrexApp("coded", codec=codecs())
app.add_registry(hy)


@hy.task
def echo(text: str) -> str:
    """Returns what it is sent."""
    return text


@hy.task
async def echo_later(text: str) -> str:
    """Returns what it is sent."""
    return text
