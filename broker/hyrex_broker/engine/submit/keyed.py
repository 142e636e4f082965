"""Submits of tasks with keys: the hashes of concurrency keys, what is answered where one has no free seat,
and the buckets of fair keys."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from types import MappingProxyType
from typing import Final, TypeAlias

from hyrex_broker.domain.blocks import TaskBatch, TaskBlock, pairs_of, stretched
from hyrex_broker.domain.errors import KeyAtMaximum
from hyrex_broker.domain.ids import HexId
from hyrex_broker.domain.model import LaneId, TaskExtras, TaskId
from hyrex_broker.engine.batching import StatementSlot
from hyrex_broker.engine.submit.handoff import Handoff, Placed
from hyrex_broker.storage.assign import Plan
from hyrex_broker.storage.keyed import KeyedStore, Placing
from hyrex_broker.storage.secrets import SecretStore
from hyrex_broker.storage.submit import HandedOff

_NONE: Final = TaskExtras()
_NO_HANDOFF_S: Final = 10.0
"""How long nothing with a key is handed off after a stripe was held for longer than 50 ms (`try_stripes`): so
slots are kept from other tasks for half a percent of the time at most."""
BUCKETS: Final = 64

FairKey: TypeAlias = tuple[str, str, str]
"""Queue, name, and the key, which belongs to both."""
NO_BUCKETS: Final[Mapping[FairKey, int]] = MappingProxyType({})


class KeyHasher:
    """Hashes keys with a secret that the brokers of a database share: nobody can make two keys that
    collide."""

    def __init__(self, secrets: SecretStore) -> None:
        self._secrets = secrets
        self._secret = b""

    async def hashes(self, batch: TaskBatch) -> Sequence[int]:
        """The hash of each task's key, which belongs to its queue and name. Raises StorageUnavailable."""
        secret = await self._known()
        count = len(batch)
        terms, keys = stretched(batch.terms, count), stretched(batch.concurrency_keys, count)
        return [
            _hash(secret, (each.queue, each.name, key or "")) for each, key in zip(terms, keys, strict=True)
        ]

    async def buckets(self, blocks: Sequence[TaskBlock]) -> Mapping[FairKey, int]:
        """The bucket of each fair key of some blocks, 1 to 64: tasks without one are bucket 0. Raises
        StorageUnavailable."""
        keys = {key for block in blocks for key in fair_keys_of(block) if key is not None}
        secret = await self._known()
        return {key: _hash(secret, key) % BUCKETS + 1 for key in keys}

    async def hash(self, key: FairKey) -> int:
        """The hash of a concurrency key of a queue and name. Raises StorageUnavailable."""
        return _hash(await self._known(), key)

    async def bucket(self, key: FairKey) -> int:
        """The bucket of a fair key of a queue and name. Raises StorageUnavailable."""
        return _hash(await self._known(), key) % BUCKETS + 1

    async def _known(self) -> bytes:
        if not self._secret:
            self._secret = await self._secrets.of_keys()
        return self._secret


def _hash(secret: bytes, key: FairKey) -> int:
    digest = blake2b("\0".join(key).encode(), digest_size=8, key=secret).digest()
    return int.from_bytes(digest, signed=True)


def fair_keys_of(block: TaskBlock) -> Iterator[FairKey | None]:
    """The fair key of each task of a block, if it has one; nothing where none has."""
    queue, name = block.terms.queue, block.terms.name
    return (None if key is None else (queue, name, key) for key in block.fair_keys or ())


@dataclass(frozen=True, slots=True)
class KeyedStored:
    """What became of a batch."""

    stored: Collection[HexId]
    """What was stored now."""
    refused: Mapping[HexId, KeyAtMaximum]
    """What was not, since its key is busy."""
    ready: Collection[tuple[LaneId, int]]
    """Lane and rank of what is ready."""
    has_later: bool = False
    """True if some wait for their time."""


class KeyedSubmits:
    """Stores batches of tasks that all have a key."""

    def __init__(self, store: KeyedStore, hasher: KeyHasher, handoff: Handoff) -> None:
        self._store = store
        self._hasher = hasher
        self._handoff = handoff
        self._hands_off_from = 0.0
        self.buckets = hasher.buckets

    async def submit(self, batch: TaskBatch, statement: StatementSlot) -> KeyedStored:
        """Store tasks, and hand off those that have a seat if that is possible. See `KeyedStore.submit`."""
        hashes = await self._hasher.hashes(batch)
        if not batch.may_wait and time.monotonic() >= self._hands_off_from:
            placed = await self._handoff.submit(batch, statement, partial(self._store_handing_off, hashes))
            if placed is not None:
                return _of_placed(batch, placed)
        found = await self._store.submit(batch, hashes)
        await statement.pass_on()
        admissions = {admitted.admission for admitted in found.values()}
        refused = {digits: admitted.holder for digits, admitted in found.items() if admitted.is_refused}
        return KeyedStored(
            [digits for digits in found if digits not in refused] if refused else found,
            _refusals(batch, refused),
            {(lane, terms.rank) for lane, terms in pairs_of(batch)} if Placing.READY in admissions else (),
            Placing.LATER in admissions,
        )

    async def _store_handing_off(
        self, hashes: Sequence[int], batch: TaskBatch, plan: Plan, slots: Sequence[int | None]
    ) -> HandedOff | None:
        handed = await self._store.submit_handing_off(batch, hashes, plan, slots)
        if handed is None:
            self._hands_off_from = time.monotonic() + _NO_HANDOFF_S
        return handed


def _of_placed(batch: TaskBatch, placed: Placed) -> KeyedStored:
    handed = placed.handed
    if handed.holders is None:
        return KeyedStored(batch.ids, {}, placed.ready)
    refused = {
        digits: holder
        for digits, admission, holder in zip(batch.ids, handed.admissions or (), handed.holders, strict=True)
        if admission == Placing.REFUSED
    }
    stored = [digits for digits in batch.ids if digits not in refused]
    return KeyedStored(stored, _refusals(batch, refused), placed.ready)


def _refusals(batch: TaskBatch, holders: Mapping[HexId, TaskId | None]) -> dict[HexId, KeyAtMaximum]:
    if not holders:
        return {}
    count = len(batch)
    terms, keys = stretched(batch.terms, count), stretched(batch.concurrency_keys, count)
    return {
        digits: KeyAtMaximum(
            f"{each.name} of queue {each.queue!r}",
            key or "",
            (each.extras or _NONE).max_per_key,
            holders[digits],
        )
        for digits, each, key in zip(batch.ids, terms, keys, strict=True)
        if digits in holders
    }
