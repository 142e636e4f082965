"""The newest word of each run on how far it is, for the next heartbeat."""

from collections.abc import Container
from itertools import islice
from typing import Final

from hyrex.worker.shared.child_messages import Progressed

MOST_TOLD: Final = 500
"""In one heartbeat: half a mebibyte of texts at most."""


class ProgressNews:
    """What was said, and what of it the broker of this stream has not been told."""

    def __init__(self) -> None:
        self._newest: dict[int, Progressed] = {}
        self._unsent: dict[int, None] = {}

    def add(self, word: Progressed) -> None:
        """Note what a run said."""
        self._newest[word.token] = word
        self._unsent[word.token] = None

    def repeat_all(self) -> None:
        """Tell all again: the stream is new."""
        self._unsent = dict.fromkeys(self._newest)

    def take(self, held: Container[int]) -> list[Progressed]:
        """What the next heartbeat tells, of runs whose leases are held."""
        if not self._newest:
            return []
        self._newest = {token: word for token, word in self._newest.items() if token in held}
        self._unsent = {token: None for token in self._unsent if token in self._newest}
        tokens = list(islice(self._unsent, MOST_TOLD))
        for token in tokens:
            del self._unsent[token]
        return [self._newest[token] for token in tokens]
