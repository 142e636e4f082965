"""In which cell each task is that this process has sent lately: found there without asking all cells.

Bounded: two generations, of which the older is forgotten when the younger is full. Each change is one step,
so that signal handlers and threads need no lock.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from hyrex.backend.ids import ID_BYTES
from hyrex.backend.outgoing import Outgoing, OutgoingBatch

__all__ = ["Homes", "key_of", "keys_of"]

GENERATION: Final = 32_768
"""Tasks of a generation; both of them take about 8 MB when they are full."""


def key_of(task_id: str) -> bytes:
    """What a task is remembered by."""
    try:
        return bytes.fromhex(task_id.replace("-", ""))
    except ValueError:
        return task_id.encode(errors="surrogatepass")  # no id of ours: some cell will say that it is none


def keys_of(tasks: Sequence[Outgoing]) -> list[bytes]:
    """What tasks are remembered by, in their order."""
    if isinstance(tasks, OutgoingBatch):
        return [tasks.ids[at : at + ID_BYTES] for at in range(0, ID_BYTES * len(tasks), ID_BYTES)]
    return [key_of(task.task_id) for task in tasks]


class Homes:
    """The URL of the cell of each task."""

    def __init__(self, generation: int = GENERATION) -> None:
        self._generation = generation
        self._young: dict[bytes, str] = {}
        self._old: dict[bytes, str] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def of(self, key: bytes) -> str | None:
        """The cell of a task, if it is remembered."""
        return self._young.get(key) or self._old.get(key)

    def known(self, keys: Sequence[bytes]) -> dict[bytes, str]:
        """Those of these tasks that are remembered: usually none, which is found quickly."""
        young, old = self._young, self._old
        if young.keys().isdisjoint(keys) and old.keys().isdisjoint(keys):
            return {}
        return {key: url for key in keys if (url := self.of(key)) is not None}

    def remember(self, keys: Sequence[bytes], url: str) -> None:
        """Note the cell of these tasks; of more than a generation, of the last ones."""
        if len(self._young) + len(keys) > self._generation:
            self._old, self._young = self._young, {}
        self._young.update(dict.fromkeys(keys[-self._generation :], url))

    def forget(self, keys: Iterable[bytes]) -> None:
        """Drop tasks that are certainly not stored, so that they may be sent anywhere."""
        for key in keys:
            self._young.pop(key, None)
            self._old.pop(key, None)  # where a generation has ended since it was sent
