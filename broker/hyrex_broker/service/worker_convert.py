"""Checks and converts the frames of workers, and converts values for them into wire messages."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from hyrex.runtime.patterns import MOST_STARS
from hyrex.v1 import worker_service_pb2 as wire
from hyrex_broker.domain import schedules as domain
from hyrex_broker.domain.errors import InvalidField, ProtocolUnsupported, TooManyItems
from hyrex_broker.domain.model import (
    DEFAULT_PRIORITY,
    HIGHEST_PRIORITY,
    CancelOrder,
    LeaseRef,
    Token,
)
from hyrex_broker.domain.rates import DeclaredLimit, Rate
from hyrex_broker.engine.sessions.session import Introduction, slots_in_all
from hyrex_broker.service import fields, schedule_convert
from hyrex_broker.service.rates import checked_rate
from hyrex_broker.storage.lanes import Definition
from hyrex_broker.storage.sessions import SessionInfo

PROTOCOL_VERSION: Final = 1
MOST_PATTERNS: Final = 100
MOST_DEFINITIONS: Final = 10_000
MOST_SCHEDULES: Final = 1000
MOST_CAPACITY: Final = 100_000
MOST_POOLS: Final = 100
MOST_CAPABILITIES: Final = 100
HIGHEST_LIMIT: Final = 1_000_000
_HIGHEST_SEQUENCE: Final = 1 << 53


def introduction(hello: wire.Hello) -> Introduction:
    """A checked Hello, without its schedules (`schedules`). Raises ProtocolUnsupported, InvalidField,
    TooManyItems."""
    _check_size_and_version(hello)
    pools, at_once = capacity(hello.capacity), slots(hello.capacity)
    definitions = [_definition(task) for task in hello.tasks]
    limits = _limits(hello)
    for task in hello.tasks:
        if task.pool not in pools:
            raise InvalidField("tasks.pool", task.pool, f"the capacity names only the pools {sorted(pools)}")
    return Introduction(
        info=SessionInfo(
            worker_name=fields.name(hello.worker_name, "worker_name"),
            host=fields.short_text(hello.host, "host") or "",
            pid=fields.integer(hello.pid, "pid", 0, fields.HIGHEST_INTEGER),
            sdk=fields.short_text(hello.sdk, "sdk") or "",
            queue_patterns=[_pattern(pattern) for pattern in hello.queue_patterns],
            task_names=sorted(definition.name for definition in definitions),
            capacity=sum(pools.values()),
            slots=slots_in_all(pools, at_once),
            limits=tuple(limit for limit in limits if limit.binds or limit.scope == "queue"),
        ),
        pools=pools,
        slots=at_once,
        task_pools={task.name: task.pool for task in hello.tasks},
        definitions=definitions,
        limits=limits,
        queues=[queue.name for queue in hello.queues],
        held=[lease_ref(ref) for ref in hello.held],
        received_through=_sequence(hello.received_through),
    )


def _check_size_and_version(hello: wire.Hello) -> None:
    if hello.protocol_version != PROTOCOL_VERSION:
        version = str(PROTOCOL_VERSION)
        raise ProtocolUnsupported(
            f"protocol_version = {hello.protocol_version}: this broker speaks {version}",
            {"minimum": version, "maximum": version},
        )
    for count, limit in (
        (len(hello.queue_patterns), MOST_PATTERNS),
        (len(hello.tasks), MOST_DEFINITIONS),
        (len(hello.queues), MOST_DEFINITIONS),
        (len(hello.schedules), MOST_SCHEDULES),
        (len(hello.held), MOST_CAPACITY),
        (len(hello.capabilities), MOST_CAPABILITIES),
    ):
        if count > limit:
            raise TooManyItems(count, limit)
    if not hello.queue_patterns:
        raise InvalidField("queue_patterns", [], "name at least one queue or pattern; * serves all")


def _sequence(number: int) -> int:
    """A received sequence, small enough that later sequences fit into their field."""
    if not 0 <= number <= _HIGHEST_SEQUENCE:
        raise InvalidField("received_through", number, "must be the highest sequence of Assignments read")
    return number


def _pattern(text: str) -> str:
    if text.count("*") > MOST_STARS:
        raise InvalidField("queue_patterns", text, f"may have at most {MOST_STARS} stars")
    return fields.name(text, "queue_patterns")


def _definition(task: wire.TaskDefinition) -> Definition:
    return Definition(
        fields.name(task.name, "tasks.name"),
        fields.name(task.queue or "default", "tasks.queue"),
        fields.integer(task.max_retries, "tasks.max_retries", 0, fields.HIGHEST_INTEGER),
        fields.milliseconds(task.timeout, "tasks.timeout", least=1) if task.HasField("timeout") else None,
        fields.integer(task.priority, "tasks.priority", 0, HIGHEST_PRIORITY) or DEFAULT_PRIORITY,
    )


async def schedules(hello: wire.Hello, payload_limit: int) -> list[domain.ScheduleDefinition]:
    """What it declares of schedules, checked. Raises InvalidField, PayloadOverLimit."""
    _refuse_twice("schedules.name", (each.name for each in hello.schedules))
    checked: list[domain.ScheduleDefinition] = []
    for each in hello.schedules:
        checked.append(
            schedule_convert.definition(each, "schedules", domain.ScheduleSource.CODE, payload_limit)
        )
        await asyncio.sleep(0)  # an expression may take a millisecond
    return checked


def _refuse_twice(field: str, names: Iterable[str]) -> None:
    """Raise InvalidField if a name occurs twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidField(field, name, "is there twice; name each once")
        seen.add(name)


def _limits(hello: wire.Hello) -> list[DeclaredLimit]:
    limits = [
        DeclaredLimit("task", task.name, task.max_concurrency, _rate(task, f"rate of task {task.name}"))
        for task in hello.tasks
    ]
    limits += [
        DeclaredLimit(
            "queue",
            fields.name(queue.name, "queues.name"),
            queue.concurrency_limit,
            _rate(queue, f"rate of queue {queue.name}"),
        )
        for queue in hello.queues
    ]
    for limit in limits:
        fields.integer(limit.maximum, f"limit of {limit.scope} {limit.name}", 0, HIGHEST_LIMIT)
    _refuse_twice("tasks.name", (task.name for task in hello.tasks))
    _refuse_twice("queues.name", (queue.name for queue in hello.queues))
    return limits


def _rate(declared: wire.TaskDefinition | wire.QueueDefinition, field: str) -> Rate | None:
    return checked_rate(declared.rate, field) if declared.HasField("rate") else None


def capacity(pools: Sequence[wire.PoolCapacity]) -> dict[str, int]:
    """Absolute numbers by pool."""
    if not 1 <= len(pools) <= MOST_POOLS:
        raise InvalidField("capacity", len(pools), f"name 1 to {MOST_POOLS} pools")
    _refuse_twice("capacity.pool", (pool.pool for pool in pools))
    for pool in pools:
        fields.short_text(pool.pool, "capacity.pool")
        if not 0 <= pool.maximum <= MOST_CAPACITY:
            raise InvalidField(
                f"capacity[{pool.pool!r}]", pool.maximum, f"must lie between 0 and {MOST_CAPACITY}"
            )
        fields.integer(pool.slots, f"slots[{pool.pool!r}]", 0, MOST_CAPACITY)
    return {pool.pool: pool.maximum for pool in pools}


def slots(pools: Sequence[wire.PoolCapacity]) -> dict[str, int]:
    """Slots by pool, of those that say how many leases they execute at once."""
    return {pool.pool: pool.slots for pool in pools if pool.slots > 0}


def changed_capacity(pools: Sequence[wire.PoolCapacity], known: Mapping[str, int]) -> dict[str, int]:
    """New numbers for pools. Only those that the Hello named, since any others would be kept for ever."""
    changed = capacity(pools)
    for name in changed:
        if name not in known:
            raise InvalidField("capacity.pool", name, f"the Hello named only the pools {sorted(known)}")
    return changed


def lease_ref(ref: wire.LeaseRef) -> LeaseRef:
    """A lease by task and token."""
    return LeaseRef(fields.task_id(ref.task_id), Token(ref.token))


def refs(leases: Sequence[LeaseRef]) -> list[wire.LeaseRef]:
    """Leases for the wire."""
    return [wire.LeaseRef(task_id=lease.task_id, token=lease.token) for lease in leases]


def cancel_runs(cancels: Sequence[CancelOrder]) -> list[wire.CancelRun]:
    """Cancels for the wire."""
    return [
        wire.CancelRun(task_id=cancel.task_id, token=cancel.token, reason=cancel.reason) for cancel in cancels
    ]
