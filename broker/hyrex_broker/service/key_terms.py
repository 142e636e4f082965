"""What terms of submitted tasks and their keys must not say together."""

from collections.abc import Sequence

from hyrex.v1 import task_pb2
from hyrex_broker.domain.blocks import stretched
from hyrex_broker.domain.errors import BrokerError, InvalidField
from hyrex_broker.domain.model import Terms


def refuse_both_keys(terms: Terms, keys: Sequence[str], refused: dict[int, BrokerError], name: str) -> None:
    """Refuse keys of another kind beside a debounce key."""
    if terms.extras is None or terms.extras.debounce_key is None or not any(keys):
        return
    error = InvalidField("debounce_key", terms.extras.debounce_key, f"give it or {name}, not both")
    refused.update({place: error for place, key in enumerate(keys) if key})


def refuse_without_key(
    terms: task_pb2.NewTask, keys: Sequence[str], refused: dict[int, BrokerError], count: int
) -> None:
    """Say so where somebody says how many of a key may run, and has forgotten the key."""
    if not (terms.max_per_key or terms.on_full):
        return
    name = "max_per_key" if terms.max_per_key else "on_full"
    error = InvalidField(name, getattr(terms, name), "is for tasks with a concurrency_key")
    keys = stretched(keys or [""], count)
    refused.update({place: error for place, key in enumerate(keys) if not key})


def refuse_keys_of_outside(
    terms: Terms, keys: Sequence[str], refused: dict[int, BrokerError], name: str
) -> None:
    """Refuse keys that share out runs where no worker runs anything."""
    if terms.extras is None or not terms.extras.is_outside:
        return
    remedy = "must stay empty: no worker runs a task that waits for a call from outside"
    refused.update({place: InvalidField(name, key, remedy) for place, key in enumerate(keys) if key})
