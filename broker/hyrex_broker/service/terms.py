"""Terms of submitted tasks, checked once: tasks of a service differ in id, payload and parents only."""

from dataclasses import dataclass
from typing import Final

from xxhash import xxh3_64_intdigest

from hyrex.v1 import task_pb2
from hyrex_broker.domain.errors import InvalidField
from hyrex_broker.domain.model import DEFAULT_PRIORITY, HIGHEST_PRIORITY, TaskExtras, Terms, rank_of
from hyrex_broker.service import fields

_MAP_BYTES: Final = 64 * 1024
_MOST_KNOWN: Final = 10_000
_LONGEST_KNOWN: Final = 1024


@dataclass(frozen=True, slots=True)
class KnownTerm:
    """Checked terms, and the hash of their bytes: where a task's digest begins."""

    terms: Terms
    seed: int


class KnownTerms:
    """Remembers terms by their bytes. Those with extras are hardly another task's, and long ones (fields of a
    later version) would fill the memory: neither are kept."""

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


def _checked(wire: task_pb2.NewTask) -> Terms:
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
    if not (start or wire.idempotency_key or wire.content_type or wire.codec or wire.headers or wire.labels):
        return None
    return TaskExtras(
        delay_ms=fields.milliseconds(wire.delay, "delay", least=0) if start == "delay" else None,
        run_at=fields.moment(wire.run_at, "run_at") if start == "run_at" else None,
        idempotency_key=fields.short_text(wire.idempotency_key, "idempotency_key"),
        content_type=fields.short_text(wire.content_type, "content_type"),
        codec=fields.short_text(wire.codec, "codec"),
        headers=fields.texts(dict(wire.headers), "headers", _MAP_BYTES),
        labels=fields.texts(dict(wire.labels), "labels", _MAP_BYTES),
    )
