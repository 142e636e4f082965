"""Each kind of damage that `hyrex verify` tells, done to a database."""

from collections.abc import Awaitable, Callable

from hyrex_broker.domain.model import Outcome, TaskId
from tests.integration.storage.keys import end, keyed, submit_keyed, take
from tests.integration.storage.stage import Stage, make_id
from tests.integration.storage.stored_workflows import stored_workflow

Damage = Callable[[Stage], Awaitable[object]]
"""Damages the database; returns the id that is to be named, unless none is."""
_LIVE = "(task_id, lane, rank, {}, run_number, attempt_number, redeliveries, releases, alone)"
_READY = (
    f"insert into ready {_LIVE.format('arrival')} select id, lane, rank, now(), 0, 0, 0, 0, false from task"
)
_DELAYED = (
    f"insert into delayed {_LIVE.format('run_at')}"
    " select id, lane, rank, now() + interval '1 hour', 0, 0, 0, 0, false from task"
)
_RUN = (
    "insert into task_run (task_id, run_number, attempt_number, outcome, final) values ($1, $2, 0, 3, true)"
)
DAMAGES: dict[str, Damage] = {}


def damage(work: Damage) -> Damage:
    DAMAGES[work.__name__] = work
    return work


@damage
async def two_ends(stage: Stage) -> TaskId:
    task_id = await ended(stage)
    await stage.execute(_RUN, task_id, 1)
    return task_id


@damage
async def live_after_end(stage: Stage) -> TaskId:
    task_id = await ended(stage)
    await stage.execute(_READY)
    return task_id


@damage
async def two_places(stage: Stage) -> TaskId:
    (task_id,) = await stage.submitted()
    await stage.execute(_DELAYED)
    return task_id


@damage
async def stranded(stage: Stage) -> TaskId:
    (task_id,) = await stage.submitted()
    await stage.execute("delete from ready")
    return task_id


@damage
async def run_taken(stage: Stage) -> TaskId:
    (task_id,) = await stage.submitted()
    await stage.execute(_RUN.replace("true", "false"), task_id, 0)
    return task_id


@damage
async def no_lane(stage: Stage) -> TaskId:
    (task_id,) = await stage.submitted()
    await stage.execute("delete from lane")
    return task_id


@damage
async def key_lost(stage: Stage) -> TaskId:
    (task_id,) = await stage.submitted(key="once")
    await stage.execute("delete from idempotency")
    return task_id


@damage
async def live_without_task(stage: Stage) -> TaskId:
    (task_id,) = await stage.submitted()
    await stage.execute("delete from task")
    return task_id


@damage
async def orphan_lease(stage: Stage) -> TaskId:
    opened, run = await stage.running()
    await stage.execute("update worker_session set ended_at = now() where id = $1", opened.session_id)
    return run.task_id


@damage
async def run_without_task(stage: Stage) -> TaskId:
    task_id = await ended(stage)
    await stage.execute("delete from task")
    return task_id


@damage
async def reopened_nothing(stage: Stage) -> TaskId:
    (task_id,) = await stage.submitted()
    await stage.execute("insert into reopen values ($1, 0)", task_id)
    return task_id


@damage
async def dismissed_nothing(stage: Stage) -> TaskId:
    (task_id,) = await stage.submitted()
    await stage.execute("insert into dismissal values ($1, 0, 'me')", task_id)
    return task_id


@damage
async def key_of_nothing(stage: Stage) -> TaskId:
    task_id = make_id()
    await stage.execute("insert into idempotency values (0, 'work', 'once', $1)", task_id)
    return task_id


@damage
async def unswept(stage: Stage) -> str:
    session_id = (await stage.session()).session_id
    await stage.expire(session_id, 3600)
    return str(session_id)


@damage
async def overdue(stage: Stage) -> TaskId:
    _, run = await stage.running(timeout_ms=1000)
    await stage.execute("update lease set deadline = now() - interval '1 hour'")
    return run.task_id


@damage
async def not_promoted(stage: Stage) -> TaskId:
    (task_id,) = await stage.submitted()
    await stage.execute("delete from ready")
    await stage.execute(_DELAYED.replace("+", "-"))
    return task_id


@damage
async def passed_over(stage: Stage) -> TaskId:
    (task_id,) = await stage.submitted()
    await stage.execute("update ready set arrival = now() - interval '1 hour'")
    await stage.execute(
        "insert into low_water_mark select lane, rank, now() - interval '1 minute' from ready"
    )
    await stage.submitted()
    opened, lane = await stage.session(), await stage.lane()
    plan = stage.plan(opened, lane, mark=(await stage.execute("select mark from low_water_mark")))
    assert len((await stage.assigns.assign(plan, stage.names)).blocks) == 1
    return task_id


@damage
async def bulk_left(stage: Stage) -> TaskId:
    operation = make_id()
    await stage.execute(
        "insert into bulk_operation (id, namespace, who, action, filter, reason, cursor, seen_at)"
        " values ($1, 0, 'me', 'retry', '{}', '', $1, now() - interval '1 hour')",
        operation,
    )
    return operation


@damage
async def slot_overdue(stage: Stage) -> str:
    await stage.execute(
        "insert into schedule (namespace, name, task, queue, cron, tz, payload, options, catchup, jitter_s,"
        " source, next_at, due_at) select 0, 'nightly', 'work', 'default', '@daily', 'UTC', '', '{}',"
        " 'latest', 0, 'code', at, at from (select now() - interval '1 hour' as at) hour"
    )
    return "nightly"


@damage
async def outbox_refused(stage: Stage) -> str:
    row = str(make_id())
    await stage.execute(
        "insert into outbox (id, task, payload, options, enqueued_at, held, reason)"
        " values ($1, 'work', '{}', '{}', now() - interval '1 hour', 'refused', 'a later option')",
        row,
    )
    return row


@damage
async def slot_lost(stage: Stage) -> str:
    task_id = make_id()
    await stage.execute(
        "insert into schedule_slot values (0, 'nightly', '2026-01-31 03:00Z', $1, 'due', now())", task_id
    )
    return f"nightly 2026-01-31T03:00:00Z: {task_id}"


@damage
async def over_limit(stage: Stage) -> str:
    await stage.submitted(2)
    await stage.assign(await stage.session(), 2)
    await stage.execute(
        "insert into concurrency_limit (namespace, scope, name, maximum, source, changed_at)"
        " values (0, 'task', 'work', 1, 'code', now() - interval '1 hour')"
    )
    await stage.execute("update lane set limited = true")
    return "task work: 2 run, 1 may"


@damage
async def seat_of_ended(stage: Stage) -> TaskId:
    holder = keyed()
    await submit_keyed(stage, holder)
    await end(stage, *await take(stage))
    await stage.execute("update seat set taken_at = now() - interval '1 hour'")
    await stage.execute("update task_run set finished_at = now() - interval '1 hour'")
    return holder.task_id


@damage
async def stuck_blocked(stage: Stage) -> TaskId:
    tasks = [keyed(), keyed(), keyed()]
    for task in tasks:
        await submit_keyed(stage, task)
    await end(stage, *await take(stage))
    await stage.execute("delete from seat")
    await stage.execute("update blocked set since = since - interval '1 hour'")
    return tasks[1].task_id


@damage
async def stuck_node(stage: Stage) -> TaskId:
    ids = await stored_workflow(stage, {"a": []})
    (run,) = await stage.assign(await stage.session(), 1, await stage.lane(followed=True))
    await stage.end(run, Outcome.COMPLETED)
    await stage.execute("update blocked set since = since - interval '1 hour'")
    await stage.execute("update task_run set finished_at = now() - interval '1 hour'")
    return ids[""]


@damage
async def node_without_root(stage: Stage) -> TaskId:
    ids = await stored_workflow(stage, {"a": [], "b": ["a"]})
    await stage.execute("delete from blocked")
    await stage.execute(
        "insert into task_run (task_id, run_number, attempt_number, outcome, final)"
        " select id, 0, 0, 5, true from unnest($1::uuid[]) as t (id)",
        [ids[""], ids["b"]],
    )
    return ids["a"]


@damage
async def over_key(stage: Stage) -> str:
    tasks = [keyed(), keyed()]
    for task in tasks:
        await submit_keyed(stage, task)
    await stage.execute("insert into seat select task_id, key, 0, 0, 0, now() from blocked")
    await stage.execute(
        f"insert into ready {_LIVE.format('arrival')} select task_id, lane, rank, now(), 0, 0, 0, 0, false"
        " from blocked"
    )
    await stage.execute("delete from blocked")
    return "a of work in queue default: 2 run, 1 may"


@damage
async def over_rate(stage: Stage) -> str:
    await stage.submitted(4)
    await stage.assign(await stage.session(), 4)
    await stage.execute(
        "insert into concurrency_limit"
        " (namespace, scope, name, source, changed_at, rate_count, rate_period_ms, rate_burst)"
        " values (0, 'task', 'work', 'code', now() - interval '1 hour', 1, 3600000, 2)"
    )
    await stage.execute("update lane set limited = true")
    return "task work: 2 more than may"


@damage
async def limit_unheeded(stage: Stage) -> str:
    await stage.lane()
    await stage.execute("update lane set limited = true")
    return "work in queue default"


async def ended(stage: Stage) -> TaskId:
    _, run = await stage.running()
    await stage.end(run, Outcome.FAILED)
    return run.task_id
