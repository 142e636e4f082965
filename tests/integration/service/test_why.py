"""AdminService.Why: one sentence for every state a task can be in, and the holders of a limit."""

import pytest

from hyrex.v1 import admin_service_pb2 as messages
from hyrex.v1.task_service_pb2 import GetTaskRequest
from hyrex_broker.domain.model import TaskId
from tests.integration.service.seeding import Seed, make_id
from tests.integration.service.stubs import Stubs, reason_of


async def why(stubs: Stubs, task_id: TaskId) -> messages.WhyResponse:
    answer: messages.WhyResponse = await stubs.admin.Why(messages.WhyRequest(task_id=task_id))
    return answer


async def test_a_queued_task_tells_what_it_waits_for(stubs: Stubs, seed: Seed) -> None:
    task_id = await seed.ready(await seed.task(queue="mail", name="send"))
    assert (await why(stubs, task_id)).sentence == "no connected worker serves queue 'mail'"
    await seed.session(patterns=("mail",), tasks=("else",))
    assert (await why(stubs, task_id)).sentence == "no connected worker has send"
    await seed.session(patterns=("mail",), tasks=("send",))
    assert (await why(stubs, task_id)).sentence.startswith("it waits its turn")
    await seed.execute("update queue set paused = true where name = 'mail'")
    assert (await why(stubs, task_id)).sentence == "queue 'mail' is paused"


@pytest.mark.parametrize(("scope", "limited"), [("queue", "mail"), ("task", "send")])
async def test_a_full_limit_names_its_holders_the_longest_first(
    stubs: Stubs, seed: Seed, scope: str, limited: str
) -> None:
    session = await seed.session(worker="worker-7", tasks=("send",))
    await seed.execute(
        "insert into concurrency_limit (namespace, scope, name, maximum, source)"
        " values (0, $1, $2, 2, 'operator')",
        scope,
        limited,
    )
    waiting = await seed.ready(await seed.task(queue="mail", name="send"))
    held = [await seed.lease(await seed.task(queue="mail", name="send"), session) for _ in range(2)]
    await seed.lease(await seed.task(queue="other", name="else"), session)
    answer = await why(stubs, waiting)
    assert "limit" in answer.sentence
    assert "(2) is reached" in answer.sentence
    assert [holder.task_id for holder in answer.holders] == held
    assert {holder.worker for holder in answer.holders} == {"worker-7"}


async def test_what_waits_for_its_key_names_the_holder_wherever_it_is_shown(stubs: Stubs, seed: Seed) -> None:
    session = await seed.session(tasks=("greet",))
    holder, waiting = [await seed.task() for _ in range(2)]
    await seed.execute("update task set concurrency_key = 'k', key_hash = 7, max_per_key = 1")
    await seed.lease(holder, session)
    await seed.execute("insert into seat values ($1, 7, 0, 0, 0)", holder)
    await seed.execute(
        "insert into blocked (task_id, lane, rank, key, most, run_number, attempt_number, redeliveries,"
        " releases, alone) select id, lane, 5, 7, 1, 0, 0, 0, 0, false from task where id = $1",
        waiting,
    )
    said = f"it waits for concurrency key 'k', of which 1 may run at once: task {holder} has held it longest"
    assert (await why(stubs, waiting)).sentence == said
    got = await stubs.tasks.GetTask(GetTaskRequest(task_id=waiting))
    assert got.task.waiting_for == said


@pytest.mark.parametrize(("scope", "limited"), [("queue", "queue 'mail'"), ("task", "task send")])
async def test_a_rate_that_is_used_up_tells_when_its_next_token_comes(
    stubs: Stubs, seed: Seed, scope: str, limited: str
) -> None:
    await seed.session(tasks=("send",))
    await seed.execute(
        "insert into concurrency_limit"
        " (namespace, scope, name, source, rate_count, rate_period_ms, rate_burst)"
        " values (0, $1, case $1 when 'queue' then 'mail' else 'send' end, 'code', 1, 3600000, 2)",
        scope,
    )
    waiting = await seed.ready(await seed.task(queue="mail", name="send"))
    assert (await why(stubs, waiting)).sentence.startswith("it waits its turn")
    at = await seed.execute(
        "insert into rate_use (namespace, scope, name, full_at)"
        " select 0, scope, name, date_trunc('milliseconds', now()) + interval '90 minutes'"
        " from concurrency_limit returning full_at - interval '1 hour'"
    )
    answer = await why(stubs, waiting)
    told = at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]  # the database's times are in UTC
    assert answer.sentence == (
        f"the rate of {limited} (1 in 3600 s) is used up; the next one may begin at {told} UTC"
    )
    assert not answer.holders


async def test_other_states_have_a_sentence_too(stubs: Stubs, seed: Seed) -> None:
    session = await seed.session(worker="worker-7")
    told = {
        "it is scheduled to run at": await seed.delayed(await seed.task()),
        "its last run did not succeed": await seed.delayed(
            await seed.run(await seed.task(), 3, final=False), 1
        ),
        "it is running on worker worker-7": await seed.lease(await seed.task(), session),
        "it has ended: completed": await seed.run(await seed.task()),
        "it has ended: timed out": await seed.run(await seed.task(), 4),
    }
    for sentence, task_id in told.items():
        answer = await why(stubs, task_id)
        assert answer.sentence.startswith(sentence)
        assert answer.status
        assert not answer.holders


async def test_an_unknown_task_has_no_reason(stubs: Stubs) -> None:
    assert await reason_of(stubs.admin.Why(messages.WhyRequest(task_id=make_id()))) == "TASK_NOT_FOUND"
    assert await reason_of(stubs.admin.Why(messages.WhyRequest(task_id="x"))) == "INVALID_FIELD"


async def test_a_tasks_own_times_are_told(stubs: Stubs, seed: Seed) -> None:
    expiring = await seed.ready(await seed.task(queue="mail", name="send"))
    await seed.execute("update task set expires_at = '2031-02-03 04:05:06+00' where id = $1", expiring)
    assert (await why(stubs, expiring)).sentence == (
        "no connected worker serves queue 'mail';"
        " it expires at 2031-02-03 04:05:06 UTC if it has not begun by then"
    )
    ended = await seed.task(queue="mail", name="send")
    await seed.execute(
        "insert into task_run (task_id, run_number, attempt_number, outcome, final, cause)"
        " values ($1, 0, 0, 5, true, 3)",
        ended,
    )
    assert (await why(stubs, ended)).sentence == "it has ended: cancelled, since it did not begin in time"


async def test_the_next_slot_of_a_tasks_schedule_is_told(stubs: Stubs, seed: Seed) -> None:
    await seed.execute(
        "insert into schedule (namespace, name, task, queue, cron, tz, payload, options, catchup, jitter_s,"
        " source, next_at, due_at) values (0, 'nightly', 'send', 'mail', '0 3 * * *', 'UTC', '{}', '{}',"
        " 'latest', 0, 'code', '2031-02-03 03:00+00', '2031-02-03 03:00+00')"
    )
    task_id = await seed.ready(
        await seed.task(queue="mail", name="send", labels='{"hyrex.schedule": "nightly"}')
    )
    said = "it is of schedule 'nightly': its next slot is 2031-02-03 03:00:00 UTC"
    assert (await why(stubs, task_id)).sentence.endswith(said)
    await seed.execute("update schedule set paused = true")
    assert (await why(stubs, task_id)).sentence.endswith("it is of schedule 'nightly': it is paused")


async def test_a_task_that_waits_for_a_debounce_key_tells_it(stubs: Stubs, seed: Seed) -> None:
    task_id = await seed.delayed(await seed.task(queue="mail", name="send"))
    await seed.execute(
        "insert into debounce values (0, 'mail', 'send', 'doc-7', $1, '2031-02-03 03:00+00')", task_id
    )
    sentence = (await why(stubs, task_id)).sentence
    assert sentence.startswith("it is scheduled to run at ")
    assert sentence.endswith(
        "; each send with the debounce key 'doc-7' begins its wait anew,"
        " until 2031-02-03 03:00:00 UTC at the latest"
    )
