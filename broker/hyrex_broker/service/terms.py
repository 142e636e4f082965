"""Terms of submitted tasks, checked once: a service's differ in id, payload, parents, headers, key."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from xxhash import xxh3_64_intdigest

from hyrex.v1 import task_pb2
from hyrex_broker.domain.errors import InvalidField
from hyrex_broker.domain.model import (
    CARRIED,
    DEFAULT_PRIORITY,
    HIGHEST_PRIORITY,
    CarriedOptions,
    TaskExtras,
    Terms,
    rank_of,
)
from hyrex_broker.service import fields

MAP_BYTES: Final = 64 * 1024
HIGHEST_PER_KEY: Final = 1000
"""A look at a key's seats takes a time that grows with their number."""
_MOST_KNOWN: Final = 10_000
_LONGEST_KNOWN: Final = 1024
_NO_WORKER: Final = "must stay empty: no worker runs a task that waits for a call from outside"
_FREE_FROM: Final = 100
"""Fields from here on change nothing about how a task runs: they may be unknown."""


@dataclass(frozen=True, slots=True)
class KnownTerm:
    """Checked terms, and the hash of their bytes, with which the digests of tasks begin."""

    terms: Terms
    seed: int


class KnownTerms:
    """Remembers terms by their bytes. Not those with extras, which rarely recur, nor long ones (with fields
    of a later version), which would fill the memory."""

    def __init__(self) -> None:
        self._known: dict[bytes, KnownTerm] = {}

    def of(self, wire: task_pb2.NewTask) -> KnownTerm:
        """Terms of a task whose own fields were taken out. Raises InvalidField."""
        written = wire.SerializeToString(deterministic=True)
        known = self._known.get(written)
        if known is None:
            known = KnownTerm(_checked(wire), xxh3_64_intdigest(written))
            if known.terms.extras is None and len(written) <= _LONGEST_KNOWN:
                if len(self._known) >= _MOST_KNOWN:
                    self._known.clear()
                self._known[written] = known
        return known


def refuse_unknown(message: Message, name: str) -> None:
    """Refuse what a later version may have meant: a broker that does not know a feature must not run the task
    without it (rule 22). Raises InvalidField."""
    number = first_unknown(message)
    if number is not None:
        remedy = "this broker does not know it; leave it out, or update the brokers first"
        raise InvalidField(name, f"field {number}", remedy)


def first_unknown(message: Message) -> int | None:
    """The number of a field that this broker does not know and that may change what is meant."""
    unknown_fields: Any = UnknownFieldSet(message)  # its stubs lack iteration
    return next((each.field_number for each in unknown_fields if each.field_number < _FREE_FROM), None)


def family_seed(seed: int, parent_id: str | None, root_id: str | None) -> int:
    """Where the digest of a task with these parents begins."""
    if parent_id is None and root_id is None:
        return seed
    return xxh3_64_intdigest(f"{parent_id}/{root_id}".encode(), seed)


def own_seed(
    seed: int,
    headers: Mapping[str, str] | None,
    key: str | None,
    concurrency_key: str | None = None,
    fair_key: str | None = None,
) -> int:
    """Where the digest of a task with headers or keys of its own begins: the same for one that came
    alone and for one of a group."""
    if fair_key:
        # Hashed twice: so it differs from that of a key of another kind.
        seed = xxh3_64_intdigest(fair_key.encode(), xxh3_64_intdigest(b"fair", seed))
    if not (headers or key or concurrency_key):
        return seed
    # No NUL is in any of them. Headers come in pairs: an even number of texts has a concurrency key.
    texts = [key or "", *[text for pair in sorted((headers or {}).items()) for text in pair]]
    if concurrency_key:
        texts.append(concurrency_key)
    return xxh3_64_intdigest("\0".join(texts).encode(), seed)


def checked_headers(values: dict[str, str]) -> dict[str, str]:
    """Headers that may be stored. Raises InvalidField."""
    return fields.texts(values, "headers", MAP_BYTES)


def _checked(wire: task_pb2.NewTask) -> Terms:
    refuse_unknown(wire, "task")
    if not 0 <= wire.priority <= HIGHEST_PRIORITY:
        raise InvalidField(
            "priority",
            wire.priority,
            f"must lie between 1 and {HIGHEST_PRIORITY} ({HIGHEST_PRIORITY} runs first),"
            f" or be 0 for {DEFAULT_PRIORITY}",
        )
    if wire.max_retries < 0:
        raise InvalidField("max_retries", wire.max_retries, "must be 0 or more")
    return Terms(
        fields.name(wire.name, "name"),
        fields.name(wire.queue, "queue"),
        rank_of(wire.priority or DEFAULT_PRIORITY),
        wire.max_retries,
        fields.milliseconds(wire.timeout, "timeout", least=1) if wire.HasField("timeout") else None,
        fields.milliseconds(wire.retry_delay, "retry_delay", least=0)
        if wire.HasField("retry_delay")
        else None,
        _extras(wire),
    )


def _extras(wire: task_pb2.NewTask) -> TaskExtras | None:
    start = wire.WhichOneof("start")
    expires = wire.HasField("expires_in")
    debounced = bool(wire.debounce_key) or wire.HasField("debounce_max_wait")
    said = start or wire.labels or expires or debounced or wire.max_per_key or wire.on_full or wire.outside
    if not (said or any(getattr(wire, name) for name in CARRIED)):
        return None
    if wire.outside:
        _refuse_of_outside(wire)
    return TaskExtras(
        delay_ms=fields.milliseconds(wire.delay, "delay", least=0) if start == "delay" else None,
        run_at=fields.moment(wire.run_at, "run_at") if start == "run_at" else None,
        carried=CarriedOptions(
            content_type=fields.short_text(wire.content_type, "content_type"),
            codec=fields.short_text(wire.codec, "codec"),
        ),
        labels=fields.texts(dict(wire.labels), "labels", MAP_BYTES),
        expires_in_ms=fields.milliseconds(wire.expires_in, "expires_in", least=1) if expires else None,
        debounce_key=_debounce_key(wire) if debounced else None,
        debounce_most_ms=_longest_wait(wire) if debounced else None,
        max_per_key=fields.integer(wire.max_per_key, "max_per_key", 0, HIGHEST_PER_KEY) or 1,
        refuses_to_wait=_refuses_to_wait(wire.on_full),
        is_outside=wire.outside,
    )


def _refuse_of_outside(wire: task_pb2.NewTask) -> None:
    """Refuse what is said of runs, where no worker runs anything. Raises InvalidField."""
    said = {
        "max_retries": wire.max_retries,
        "timeout": wire.HasField("timeout"),
        "retry_delay": wire.HasField("retry_delay"),
        "start": wire.WhichOneof("start"),
        "debounce_key": wire.debounce_key,
        "max_per_key": wire.max_per_key,
        "on_full": wire.on_full,
    }
    for name, value in said.items():
        if value:
            raise InvalidField(name, value, _NO_WORKER)


def _debounce_key(wire: task_pb2.NewTask) -> str:
    if not wire.debounce_key:
        raise InvalidField(
            "debounce_max_wait", f"{wire.debounce_max_wait.seconds} s", "is for tasks with a debounce_key"
        )
    key = fields.name(wire.debounce_key, "debounce_key")
    if wire.WhichOneof("start") != "delay" or not wire.delay.ToNanoseconds() > 0:
        raise InvalidField("debounce_key", key, "needs a delay above zero, which each send begins anew")
    if wire.HasField("expires_in"):
        raise InvalidField("debounce_key", key, "give it or expires_in, not both")
    return key


def _longest_wait(wire: task_pb2.NewTask) -> int | None:
    if not wire.HasField("debounce_max_wait"):
        return None
    delay_ms = fields.milliseconds(wire.delay, "delay", least=0)
    return fields.milliseconds(wire.debounce_max_wait, "debounce_max_wait", least=delay_ms)


def _refuses_to_wait(on_full: int) -> bool:
    if on_full not in task_pb2.OnFull.values():
        raise InvalidField("on_full", on_full, "must be ON_FULL_WAIT or ON_FULL_REFUSE")
    return on_full == task_pb2.ON_FULL_REFUSE
