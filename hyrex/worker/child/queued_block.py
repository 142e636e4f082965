"""Runs that wait in a child as they came: as a block. Knows which have left, and decodes arguments in lots.

Nothing here knows what executes the runs. Several threads may take runs of one block.
"""

import threading
from typing import Any, Final

from hyrex.arguments.limits import LOT
from hyrex.task import HyrexTask, coder_of
from hyrex.worker.shared.runs import RunBlock

_LOT_BYTES: Final = 1 << 18  # larger ones are decoded each by itself: decoded values take memory


class QueuedBlock:
    """A block of runs, and how many of them have left."""

    __slots__ = (
        *("_decoded", "_in_lots", "_lock", "_shared"),
        *("block", "first_ordinal", "next", "task", "worker"),
    )

    def __init__(self, block: RunBlock, first_ordinal: int, worker: str) -> None:
        self.block = block
        self.first_ordinal = first_ordinal
        self.worker = worker
        self.next = 0
        self.task: HyrexTask[..., Any] | None = None  # once it is known that it can execute them
        self._decoded: dict[int, dict[str, Any]] = {}  # by place
        # Some of its lots may be decoded together; not those that a codec has encoded, each by itself, nor
        # nodes of workflows, which are given results of others.
        alone = block.terms.codec or block.nodes
        self._shared = self._in_lots = len(block.tokens) >= LOT and not alone
        self._lock = threading.Lock()

    def arguments(self, place: int, task: HyrexTask[..., Any]) -> dict[str, Any]:
        """Decoded arguments of one run, once; the block lets go of its payload.

        Raises ArgumentInvalid, and whatever code of the user raises that validates them.
        """
        payloads = self.block.payloads
        found = self._decoded.pop(place, None)
        if found is None and self._shared:
            with self._lock:  # not while code of the user runs: it may block
                if self._in_lots:
                    self._decode_lot(place, task)
                found = self._decoded.pop(place, None)  # another thread may have decoded it meanwhile
                payload, payloads[place] = payloads[place], b""  # so that nobody else decodes it now
        elif found is None:
            payload, payloads[place] = payloads[place], b""
        return coder_of(task).decode_arguments(payload) if found is None else found

    def _decode_lot(self, place: int, task: HyrexTask[..., Any]) -> None:
        """Decode the arguments of this run and of those after it, if they can be decoded together."""
        payloads = self.block.payloads[place : place + LOT]
        if not all(payloads):  # another thread was here
            return
        if len(payloads) == LOT and sum(map(len, payloads)) <= _LOT_BYTES:
            found = coder_of(task).decode_lot(payloads)
            if found is not None:
                self._decoded.update(enumerate(found, place))
                self.block.payloads[place : place + LOT] = [b""] * LOT
                return
        self._in_lots = False
