"""Submits of tasks with concurrency keys: their hash, and what is answered where a key has no free seat."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Final

from hyrex_broker.domain.blocks import TaskBatch, stretched
from hyrex_broker.domain.errors import KeyAtMaximum
from hyrex_broker.domain.ids import HexId
from hyrex_broker.domain.model import TaskExtras, Terms
from hyrex_broker.storage.keyed import Admitted, KeyedStore
from hyrex_broker.storage.secrets import SecretStore

_NONE: Final = TaskExtras()


class KeyHasher:
    """Hashes keys with a secret that the brokers of a database share: nobody can make two keys that
    collide."""

    def __init__(self, secrets: SecretStore) -> None:
        self._secrets = secrets
        self._secret = b""

    async def hashes(self, batch: TaskBatch) -> Sequence[int]:
        """The hash of each task's key, which belongs to its queue and name. Raises StorageUnavailable."""
        if not self._secret:
            self._secret = await self._secrets.of_keys()
        count = len(batch)
        terms, keys = stretched(batch.terms, count), stretched(batch.concurrency_keys, count)
        return [self._hash(each, key or "") for each, key in zip(terms, keys, strict=True)]

    def _hash(self, terms: Terms, key: str) -> int:
        text = f"{terms.queue}\0{terms.name}\0{key}".encode()
        return int.from_bytes(blake2b(text, digest_size=8, key=self._secret).digest(), signed=True)


class KeyedSubmits:
    """Stores batches of tasks that all have a key."""

    def __init__(self, store: KeyedStore, hasher: KeyHasher) -> None:
        self._store = store
        self._hasher = hasher

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
