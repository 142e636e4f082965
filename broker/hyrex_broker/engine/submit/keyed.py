"""Submits of tasks with keys: the hashes of concurrency keys, what is answered where one has no free seat,
and the buckets of fair keys."""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from types import MappingProxyType
from typing import Final, TypeAlias

from hyrex_broker.domain.blocks import TaskBatch, TaskBlock, stretched
from hyrex_broker.domain.errors import KeyAtMaximum
from hyrex_broker.domain.ids import HexId
from hyrex_broker.domain.model import TaskExtras
from hyrex_broker.storage.keyed import Admitted, KeyedStore
from hyrex_broker.storage.secrets import SecretStore

_NONE: Final = TaskExtras()
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


class KeyedSubmits:
    """Stores batches of tasks that all have a key."""

    def __init__(self, store: KeyedStore, hasher: KeyHasher) -> None:
        self._store = store
        self._hasher = hasher
        self.buckets = hasher.buckets

    async def submit(self, batch: TaskBatch) -> tuple[dict[HexId, Admitted], dict[HexId, KeyAtMaximum]]:
        """What was stored now, and what was refused since its key is busy. See `KeyedStore.submit`."""
        found = await self._store.submit(batch, await self._hasher.hashes(batch))
        refused = {digits for digits, admitted in found.items() if admitted.is_refused}
        if not refused:
            return found, {}
        return (
            {digits: admitted for digits, admitted in found.items() if digits not in refused},
            _refusals(batch, {digits: found[digits] for digits in refused}),
        )


def _refusals(batch: TaskBatch, refused: Mapping[HexId, Admitted]) -> dict[HexId, KeyAtMaximum]:
    count = len(batch)
    terms, keys = stretched(batch.terms, count), stretched(batch.concurrency_keys, count)
    return {
        digits: KeyAtMaximum(
            f"{each.name} of queue {each.queue!r}",
            key or "",
            (each.extras or _NONE).max_per_key,
            refused[digits].holder,
        )
        for digits, each, key in zip(batch.ids, terms, keys, strict=True)
        if digits in refused
    }
