"""Connects the parts of a broker that tell one another what happened; none of them knows who listens."""

from collections.abc import Iterable, Sequence

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.model import TaskId
from hyrex_broker.engine.beside import Carrier
from hyrex_broker.parts import Engine
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.purge import Purged


def connect(engine: Engine, database: Database) -> None:
    """Connect the parts that notify one another."""
    watches, notifications, dispatcher = engine.watches, engine.notifications, engine.dispatcher

    def changed(task_ids: Iterable[TaskId]) -> None:
        if watches.active or notifications.others_watch:  # ids of blocks are only made where somebody asks
            ids = list(task_ids)
            watches.touch(ids)
            notifications.tell_finished(ids)

    def changed_elsewhere(task_ids: Sequence[TaskId] | None) -> None:
        if task_ids is None:
            watches.touch_all()
        else:
            watches.touch(task_ids)

    def round_over(answered: bool) -> None:
        if not answered:
            engine.sweeper.distrust()

    database.on_missing_partition = engine.retention.hurry
    engine.retention.on_round = engine.directory.forget_gone
    engine.presence.on_round = round_over
    engine.presence.on_fewer = engine.follow.sweep_soon
    engine.directory.gate = engine.schedules.later.gate = engine.presence.gate
    engine.relay.tasks.gate = engine.presence.gate
    engine.sessions.declare_schedules = engine.schedules.declare
    engine.reports.on_change = changed
    engine.cancels.on_change = changed
    engine.outside.on_change = changed
    engine.expiry.on_change = changed
    dispatcher.on_change = changed
    engine.cancels.from_outbox = engine.relay.relay_now
    engine.presence.carries = engine.carrier is not None
    if engine.carrier is not None:
        _connect_carrier(engine.carrier, engine, database)
    engine.follow.on_change = changed
    _connect_follow(engine)
    engine.progress.on_change = changed
    engine.cancels.on_elsewhere = notifications.tell_cancel
    engine.directory.on_write.append(notifications.tell_config)
    dispatcher.on_local_work = notifications.tell_ready
    notifications.on_ready = lambda pairs: dispatcher.wake(pairs, local=False)
    notifications.on_finished = changed_elsewhere
    notifications.on_config = dispatcher.look_again
    notifications.on_relisten = dispatcher.look_again
    notifications.on_cancel = engine.heartbeats.look_for_cancels


def _connect_carrier(carrier: Carrier, engine: Engine, database: Database) -> None:
    """Have rows of the outbox beside the database found where a task of their id is looked for."""

    async def from_outboxes(task_ids: Sequence[TaskId]) -> set[TaskId]:
        if not await carrier.bring(task_ids):
            raise StorageUnavailable(f"task {task_ids[0]} may be in the outbox of a database that is away")
        return await carrier.refused.dismiss(task_ids) | await engine.relay.relay_now(task_ids)

    engine.cancels.from_outbox = from_outboxes
    carrier.on_carried = engine.relay.hurry
    database.bring = carrier.bring
    database.refused_beside = lambda task_ids, payload: carrier.refused_of(task_ids, with_payload=payload)


def _connect_follow(engine: Engine) -> None:
    """Have every part that ends tasks, or makes them wait for others, tell of it."""
    follow = engine.follow
    engine.reports.on_ended = follow.ended_in
    engine.cancels.on_ended = follow.ended_in
    engine.outside.on_ended = follow.ended_in
    engine.expiry.on_ended = follow.ended_in
    engine.dispatcher.on_ended = follow.ended_in
    engine.cancels.on_blocked = follow.ended
    engine.expiry.on_blocked = follow.ended
    engine.promoter.on_blocked = follow.ended
    engine.schedules.places.on_blocked = follow.ended
    engine.relay.tasks.on_blocked = follow.ended
    engine.workflows.on_blocked = follow.ended
    engine.nodes.cancel = engine.cancels.cancel


def tell_purged(engine: Engine, purged: Purged) -> None:
    """Tell of tasks that a purge has cancelled."""
    engine.reports.on_change(purged.task_ids)
    if purged.to_follow or purged.keys:
        engine.follow.ended(purged.to_follow, purged.keys)
