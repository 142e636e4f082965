"""Submitted tasks as blocks: what tasks share is checked once, the rest column by column.

A group of a frame is nearly a block; single tasks of SubmitTasks are put together to such columns first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal, TypeVar

from xxhash import xxh3_64_intdigest

from hyrex.v1 import task_pb2, task_service_pb2
from hyrex_broker.domain.blocks import NO_TRACE, TRACE_BYTES, TaskBlock, at_places, stretched
from hyrex_broker.domain.errors import BrokerError, InvalidField, PayloadOverLimit
from hyrex_broker.domain.ids import ID_BYTES, task_id, unpacked
from hyrex_broker.domain.model import TaskId
from hyrex_broker.service import fields
from hyrex_broker.service.ids import packed_id, unusual_ids
from hyrex_broker.service.key_terms import refuse_both_keys, refuse_keys_of_outside, refuse_without_key
from hyrex_broker.service.terms import KnownTerms, checked_headers, family_seed, own_seed, refuse_unknown

Value = TypeVar("Value")
Checked = TypeVar("Checked")

MOST_TASKS: Final = 1000
_HALF: Final = 1 << 63
_NO_HEADERS: Final = task_pb2.Headers()
_Key = Literal["concurrency_key", "fair_key"]
_Own = _Key | Literal["task_id", "payload", "headers", "idempotency_key"]
_KEYS: Final[tuple[_Key, ...]] = ("concurrency_key", "fair_key")
_COLUMNS: Final = ("headers", "idempotency_keys", *(f"{name}s" for name in _KEYS))
_OWN: Final[tuple[_Own, ...]] = ("task_id", "payload", "headers", "idempotency_key", *_KEYS)
"""Fields of NewTask that differ from task to task: in a group they are columns."""
_PARENTS: Final = ("parent_id", "root_id")


@dataclass(slots=True)
class Submission:
    """What one request asks for. Places count through its tasks."""

    count: int = 0
    blocks: "list[PlacedBlock]" = field(default_factory=list)
    """Tasks that may be stored, and their places."""
    refused: dict[int, BrokerError] = field(default_factory=dict)


PlacedBlock = tuple[TaskBlock, Sequence[int]]


@dataclass(slots=True)
class _Columns:
    """Tasks with the same terms, not checked yet. An empty column: no task has such a thing."""

    terms: task_pb2.NewTask
    task_ids: bytes = b""
    payloads: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str] | None] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    traces: bytes = b""
    concurrency_keys: list[str] = field(default_factory=list)
    fair_keys: list[str] = field(default_factory=list)


def count_of(group: task_service_pb2.TaskGroup) -> int:
    """How many tasks a group has; of one whose columns do not agree, as many as the longer one says."""
    return max(len(group.payloads), -(-len(group.task_ids) // ID_BYTES))


def ids_of(groups: Sequence[task_service_pb2.TaskGroup]) -> list[str]:
    """The id at each place, as text; empty where it is not whole."""
    found: list[str] = []
    for group in groups:
        whole = unpacked(group.task_ids[: len(group.task_ids) // ID_BYTES * ID_BYTES])
        found += [*map(task_id, whole), *[""] * (count_of(group) - len(whole))]
    return found


class SubmitReader:
    """Makes blocks of what is submitted."""

    def __init__(self, payload_limit_bytes: int) -> None:
        self._terms = KnownTerms()
        self._limit = payload_limit_bytes

    def groups(self, groups: Sequence[task_service_pb2.TaskGroup]) -> Submission:
        """The groups of a frame. One that is refused as a whole refuses each of its tasks."""
        found = Submission()
        for at, group in enumerate(groups):
            count = count_of(group)
            places = range(found.count, found.count + count)
            found.count += count
            if not count:
                continue
            try:
                columns = _columns(group, f"groups[{at}]", count)
            except BrokerError as error:
                found.refused.update(dict.fromkeys(places, error))
            else:
                self._add(found, columns, places)
        return found

    def tasks(self, tasks: Sequence[task_pb2.NewTask]) -> Submission:
        """Single tasks (which are taken apart)."""
        found = Submission(len(tasks))
        gathered: dict[bytes, tuple[_Columns, list[int]]] = {}
        for place, task in enumerate(tasks):
            try:
                packed = packed_id(task.task_id)
            except BrokerError as error:
                found.refused[place] = error
                continue
            own = packed, task.payload, dict(task.headers), task.idempotency_key
            keys = task.concurrency_key, task.fair_key
            for name in _OWN:
                task.ClearField(name)
            shared = task.SerializeToString(deterministic=True)
            found_before = gathered.get(shared)
            if found_before is None:
                found_before = gathered[shared] = _Columns(task), []
            columns, places = found_before
            places.append(place)
            columns.task_ids += own[0]
            columns.payloads.append(own[1])
            columns.headers.append(own[2])
            columns.keys.append(own[3])
            columns.concurrency_keys.append(keys[0])
            columns.fair_keys.append(keys[1])
        for columns, places in gathered.values():
            self._add(found, columns, places)
        return found

    def _add(self, found: Submission, columns: _Columns, places: Sequence[int]) -> None:
        refused: dict[int, BrokerError] = {}
        try:
            block = self._block(columns, refused)
        except BrokerError as error:
            found.refused.update(dict.fromkeys(places, error))
            return
        if refused:
            found.refused.update({places[at]: error for at, error in refused.items()})
            kept = [at for at in range(len(places)) if at not in refused]
            if not kept:
                return
            block, places = at_places(block, kept), [places[at] for at in kept]
        found.blocks.append((block, places))

    def _block(self, columns: _Columns, refused: dict[int, BrokerError]) -> TaskBlock:
        """Checked tasks; those that may not be stored are in `refused` too. Raises BrokerError for all."""
        parent_id, root_id = _parents_taken(columns.terms)
        known = self._terms.of(columns.terms)
        payloads = columns.payloads
        headers = _checked(columns.headers, checked_headers, refused)
        refuse_both_keys(known.terms, columns.keys, refused, "idempotency_key")
        refuse_both_keys(known.terms, columns.concurrency_keys, refused, "concurrency_key")
        refuse_without_key(columns.terms, columns.concurrency_keys, refused, len(payloads))
        keys = _checked(columns.keys, partial(fields.short_text, field="idempotency_key"), refused)
        refuse_keys_of_outside(known.terms, columns.concurrency_keys, refused, "concurrency_key")
        refuse_keys_of_outside(known.terms, columns.fair_keys, refused, "fair_key")
        concurrency_keys = _checked(
            columns.concurrency_keys, partial(fields.short_text, field="concurrency_key"), refused
        )
        fair_keys = _checked(columns.fair_keys, partial(fields.short_text, field="fair_key"), refused)
        seed = family_seed(known.seed, parent_id, root_id)
        if max(map(len, payloads)) > self._limit:
            _refuse_large(payloads, self._limit, refused)
        ids = unpacked(columns.task_ids)
        for place, error in unusual_ids(ids):
            refused.setdefault(place, error)
        return TaskBlock(
            known.terms,
            parent_id,
            root_id,
            ids,
            payloads,
            _digests(payloads, seed, headers, keys, concurrency_keys, fair_keys),
            headers,
            keys,
            _trace_contexts(columns.traces, len(ids)),
            concurrency_keys,
            fair_keys,
        )


def _columns(group: task_service_pb2.TaskGroup, name: str, count: int) -> _Columns:
    """A group whose columns are as long as they may be, with nothing that this broker does not know."""
    refuse_unknown(group, name)
    _check_lengths(group, name, count)
    terms, keys = group.terms, [list(group.concurrency_keys), list(group.fair_keys)]
    if terms.concurrency_key or terms.fair_key:
        keys = [_keys(group, name) for name in _KEYS]
    own = next((own for own in _OWN if getattr(terms, own)), None)
    if own is not None:
        shown = dict(terms.headers) if own == "headers" else getattr(terms, own)
        raise InvalidField(f"{name}.terms.{own}", shown, "must stay empty: it is a column of the group")
    return _Columns(
        terms,
        group.task_ids,
        list(group.payloads),
        list(
            stretched([None if each == _NO_HEADERS else dict(each.headers) for each in group.headers], count)
        ),
        list(stretched(group.idempotency_keys, count)),
        group.trace_contexts * (count if len(group.trace_contexts) == TRACE_BYTES else 1),
        *(list(stretched(each, count)) for each in keys),
    )


def _keys(group: task_service_pb2.TaskGroup, name: _Key) -> list[str]:
    """A column of keys. One of the terms is that of all: a client that puts tasks with equal terms together
    need not know of the column."""
    keys, shared = list(getattr(group, f"{name}s")), getattr(group.terms, name)
    if shared and not keys:
        keys = [shared]
        group.terms.ClearField(name)
    return keys


def _check_lengths(group: task_service_pb2.TaskGroup, name: str, count: int) -> None:
    if len(group.task_ids) != ID_BYTES * count:
        remedy = f"must have {ID_BYTES} bytes for each of the group's {count} tasks"
        raise InvalidField(f"{name}.task_ids", f"{len(group.task_ids)} bytes", remedy)
    if len(group.payloads) != count:
        remedy = f"must have one value for each of the group's {count} tasks"
        raise InvalidField(f"{name}.payloads", f"{len(group.payloads)} values", remedy)
    for column in _COLUMNS:
        if len(getattr(group, column)) not in (0, 1, count):
            remedy = f"must have no value, one, or {count}"
            raise InvalidField(f"{name}.{column}", f"{len(getattr(group, column))} values", remedy)
    if len(group.trace_contexts) not in (0, TRACE_BYTES, TRACE_BYTES * count):
        remedy = f"must have no byte, {TRACE_BYTES}, or {TRACE_BYTES} for each of {count} tasks"
        raise InvalidField(f"{name}.trace_contexts", f"{len(group.trace_contexts)} bytes", remedy)


def _parents_taken(terms: task_pb2.NewTask) -> tuple[TaskId | None, TaskId | None]:
    """Parent and root, which are taken out of the terms."""
    found = [
        fields.task_id(getattr(terms, name), name) if getattr(terms, name) else None for name in _PARENTS
    ]
    for name in _PARENTS:
        terms.ClearField(name)
    return found[0], found[1]


def _checked(
    column: Sequence[Value | None], check: Callable[[Value], Checked | None], refused: dict[int, BrokerError]
) -> list[Checked | None] | None:
    """A column's values, checked; None where no task has one."""
    if not any(column):
        return None
    found: list[Checked | None] = [None] * len(column)
    for place, value in enumerate(column):
        if value:
            try:
                found[place] = check(value)
            except BrokerError as error:
                refused.setdefault(place, error)
    return found


def _refuse_large(payloads: Sequence[bytes], limit: int, refused: dict[int, BrokerError]) -> None:
    for place, payload in enumerate(payloads):
        if len(payload) > limit:
            refused.setdefault(place, PayloadOverLimit("payload", len(payload), limit))


def _trace_contexts(packed: bytes, count: int) -> list[bytes | None] | None:
    if not packed.strip(b"\0"):
        return None
    each = (packed[at : at + TRACE_BYTES] for at in range(0, TRACE_BYTES * count, TRACE_BYTES))
    return [None if one == NO_TRACE else one for one in each]


def _digests(
    payloads: Sequence[bytes],
    seed: int,
    headers: Sequence[dict[str, str] | None] | None,
    *keys: Sequence[str | None] | None,
) -> list[int]:
    """64 bits over everything submitted, as Postgres has them: the seed stands for all but the payload."""
    digests = [xxh3_64_intdigest(payload, seed) - _HALF for payload in payloads]
    headers = headers or ()
    places = {place for own in (headers, *keys) for place, value in enumerate(own or ()) if value}
    for place in sorted(places):
        mine = own_seed(
            seed, headers[place] if headers else None, *[each[place] if each else None for each in keys]
        )
        digests[place] = xxh3_64_intdigest(payloads[place], mine) - _HALF
    return digests
