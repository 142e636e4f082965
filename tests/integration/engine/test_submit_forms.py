"""The same submits leave the same rows and get the same answers, singly, as one frame, or cut at random."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from hyrex.v1 import task_pb2, task_service_pb2
from hyrex_broker.domain.blocks import TRACE_BYTES
from hyrex_broker.domain.model import CarriedOptions, SubmitAnswer, TaskExtras
from hyrex_broker.service.submit import SubmitChecker
from hyrex_broker.storage.reads import TaskReads
from tests.integration.engine.bench import Bench
from tests.integration.storage.stage import make_id, new_task
from tests.support.groups import group_of

COUNT: Final = 60
LIMIT: Final = 10_000
PARENTS: Final = [make_id() for _ in range(3)]
ROWS: Final = """
select t.id::text, l.queue, l.name, t.rank, t.max_retries, t.timeout_ms, t.digest, t.payload, t.parent_id,
       t.root_id, t.content_type, t.headers, t.labels, t.trace_context, t.idempotency_key,
       (select count(*) from ready where task_id = t.id)
       + (select count(*) from lease where task_id = t.id) as now,
       exists (select from delayed where task_id = t.id) as later,
       exists (select from idempotency k where k.task_id = t.id) as holds_key
from task t join lane l on l.id = t.lane order by t.id
"""
RUNNING: Final = task_pb2.TASK_STATUS_RUNNING
QUEUED: Final = task_pb2.TASK_STATUS_QUEUED
Answer = tuple[str, str, str, bool, int]


def random_tasks(chance: random.Random) -> list[task_pb2.NewTask]:
    """Tasks in the order of their ids; some ids come again, with this content or another; some are bad."""
    tasks: list[task_pb2.NewTask] = []
    for task_id in sorted(make_id() for _ in range(COUNT)):
        task = task_pb2.NewTask(task_id=task_id, name=chance.choice("ab"), queue=chance.choice("qr"))
        task.payload = chance.choice([b"1", b"2"])
        task.max_retries = chance.choice([0, 0, 0, 3])
        for change in chance.sample(CHANGES, chance.choice([0, 0, 0, 1, 2])):
            change(task, chance)
        tasks.append(task)
    for _ in range(COUNT // 6):
        again = task_pb2.NewTask()
        again.CopyFrom(chance.choice(tasks))
        if chance.random() < 0.5:
            chance.choice(CHANGES)(again, chance)
        tasks.append(again)
    return tasks


def keyed(task: task_pb2.NewTask, chance: random.Random) -> None:
    task.idempotency_key = chance.choice("xyz")


def headed(task: task_pb2.NewTask, chance: random.Random) -> None:
    task.headers["h"] = chance.choice(["1", "2", "\0"])


def labelled(task: task_pb2.NewTask, chance: random.Random) -> None:
    task.labels["l"] = chance.choice("12")


def parented(task: task_pb2.NewTask, chance: random.Random) -> None:
    task.parent_id = task.root_id = chance.choice(PARENTS)


def delayed(task: task_pb2.NewTask, chance: random.Random) -> None:
    task.delay.CopyFrom(Duration(seconds=chance.choice([0, 3600])))


def scheduled(task: task_pb2.NewTask, chance: random.Random) -> None:
    task.run_at.CopyFrom(Timestamp(seconds=chance.choice([1_000_000_000, 4_000_000_000])))


def timed(task: task_pb2.NewTask, chance: random.Random) -> None:
    task.timeout.CopyFrom(Duration(seconds=chance.choice([1, 2])))


def spoilt(task: task_pb2.NewTask, chance: random.Random) -> None:
    task.payload = bytes(LIMIT + 1)


CHANGES: Final = [keyed, keyed, headed, labelled, parented, delayed, scheduled, timed, spoilt]


def cut(
    tasks: Sequence[task_pb2.NewTask], chance: random.Random, most: int
) -> Iterator[Sequence[task_pb2.NewTask]]:
    while tasks:
        size = chance.randint(1, most)
        yield tasks[:size]
        tasks = tasks[size:]


def grouped(tasks: Sequence[task_pb2.NewTask]) -> tuple[list[task_service_pb2.TaskGroup], list[int]]:
    """Tasks of equal terms as one group, and which task is at each place. Equal ids keep their order."""
    groups: list[tuple[task_service_pb2.TaskGroup, list[int]]] = []
    still_open: dict[bytes, int] = {}
    seen: set[str] = set()
    for at, task in enumerate(tasks):
        if task.task_id in seen:
            still_open.clear()
        seen.add(task.task_id)
        group = group_of(task)
        key = group.terms.SerializeToString(deterministic=True)
        if key not in still_open:
            still_open[key] = len(groups)
            groups.append((task_service_pb2.TaskGroup(terms=group.terms), []))
        whole, places = groups[still_open[key]]
        places.append(at)
        whole.task_ids += group.task_ids
        whole.payloads.append(task.payload)
        whole.headers.add(headers=task.headers)
        whole.idempotency_keys.append(task.idempotency_key)
    return [group for group, _ in groups], [at for _, places in groups for at in places]


class Sender:
    """Sends tasks in one way to one engine."""

    def __init__(self, bench: Bench) -> None:
        availability = bench.database.availability
        self.checker = SubmitChecker(bench.engine.intake, LIMIT, availability, TaskReads(bench.database))

    async def singly(self, tasks: Sequence[task_pb2.NewTask]) -> list[Answer]:
        answers = []
        for task in tasks:
            results = task_service_pb2.SubmitTasksResponse().results
            await self.checker.submit([task], results)
            answers += [shown(result) for result in results]
        return answers

    async def in_calls(self, tasks: Sequence[task_pb2.NewTask]) -> list[Answer]:
        results = task_service_pb2.SubmitTasksResponse().results
        await self.checker.submit(tasks, results)
        return [shown(result) for result in results]

    async def in_frames(self, tasks: Sequence[task_pb2.NewTask]) -> list[Answer]:
        groups, order = grouped(tasks)
        stored = task_service_pb2.SUBMIT_OUTCOME_STORED
        answers = [
            shown(task_service_pb2.SubmitResult(task_id=task.task_id, outcome=stored)) for task in tasks
        ]
        placed = task_service_pb2.StreamSubmitResponse().results
        await self.checker.submit_groups(groups, placed)
        for each in placed:
            answers[order[each.place]] = shown(each.result)
        return answers


def shown(result: task_service_pb2.SubmitResult) -> Answer:
    outcome = task_service_pb2.SubmitOutcome.Name(result.outcome)
    # Whether the holder of a key has gone to its worker already is a matter of moments.
    status = QUEUED if result.status == RUNNING else result.status
    return outcome, result.error.reason, result.task_id, result.payload_differs, status


def renamed(value: Any, names: dict[str, str]) -> Any:
    return names.get(value, value) if isinstance(value, str) else value


@pytest.mark.parametrize("seed", range(8))
async def test_rows_and_answers_do_not_depend_on_how_tasks_are_sent(bench: Bench, seed: int) -> None:
    chance = random.Random(seed)
    tasks = random_tasks(chance)
    await bench.worker(capacity=5, tasks=["a"], limits=[("task", "b", 2)])
    sender, found = Sender(bench), []
    ways = [
        (sender.singly, 1), (sender.in_calls, 1000), (sender.in_frames, 1000), (sender.in_frames, 9),
        (sender.in_calls, 9), (sender.in_frames, 1),
    ]  # fmt: skip
    for send, most in ways:
        ids = sorted({task.task_id for task in tasks})
        names: dict[str, str] = dict(zip(sorted(make_id() for _ in ids), ids, strict=True))
        news = {old: new for new, old in names.items()}
        sent = [changed(task, news[task.task_id]) for task in tasks]
        answers: list[Any] = []
        for part in cut(sent, chance, most):
            answers += await send(part)
        rows = [[renamed(value, names) for value in row.values()] for row in await bench.database.fetch(ROWS)]
        found.append((rows, [tuple(renamed(value, names) for value in answer) for answer in answers]))
        for table in ("ready", "lease", "delayed", "idempotency", "task"):
            await bench.database.execute(f"delete from {table}")
    assert len(found[0][0]) > COUNT / 2
    for rows, answers in found[1:]:
        assert different(rows, found[0][0]) == []
        assert different(answers, found[0][1]) == []


def different(these: list[Any], those: list[Any]) -> list[Any]:
    return [
        [(place, one, other) for place, (one, other) in enumerate(zip(*pair, strict=True)) if one != other]
        for pair in zip(these, those, strict=True)
        if pair[0] != pair[1]
    ]


def changed(task: task_pb2.NewTask, task_id: str) -> task_pb2.NewTask:
    copy = task_pb2.NewTask()
    copy.CopyFrom(task)
    copy.task_id = task_id
    return copy


async def test_what_is_unusual_about_one_task_keeps_no_other_from_its_worker(bench: Bench) -> None:
    """A header or label travels with the hand-off; a key or a delay is stored beside it."""
    _, link = await bench.worker(capacity=100)
    plain = [new_task() for _ in range(40)]
    odd = [
        new_task(headers={"h": "1"}, trace_context=b"\1" * TRACE_BYTES),
        new_task(extras=TaskExtras(labels={"l": "1"}, carried=CarriedOptions(content_type="text/plain"))),
    ]
    kept = [new_task(key="k"), new_task(extras=TaskExtras(delay_ms=3_600_000))]
    await bench.submit([*plain[:20], *odd, *kept, *plain[20:]])
    handed = [run for _, runs in link.frames[:1] for run in runs]
    assert {run.task_id for run in handed} == {task.task_id for task in [*plain, *odd]}
    by_id = {run.task_id: run for run in handed}
    assert by_id[odd[0].task_id].headers == {"h": "1"}
    assert by_id[odd[1].task_id].content_type == "text/plain"
    (delayed_id,) = [row[0] for row in await bench.database.fetch("select task_id::text from delayed")]
    assert delayed_id == kept[1].task_id


async def test_a_frame_that_comes_again_beside_new_tasks_stores_those_only(bench: Bench) -> None:
    _, link = await bench.worker(capacity=100)
    first = [new_task() for _ in range(10)]
    await bench.submit(first)
    other = new_task(first[0].task_id, digest=1)
    more = [new_task() for _ in range(10)]
    answers = await bench.submit([*first[1:], *more, other])
    outcomes = [getattr(answer, "outcome", type(answer).__name__) for answer in answers]
    assert [str(outcome) for outcome in outcomes] == ["2"] * 9 + ["1"] * 10 + ["TaskIdConflict"]
    await link.until_runs(20)
    assert len({run.task_id for run in link.runs}) == len(link.runs) == 20


async def test_ids_that_come_several_times_in_a_batch_are_judged_by_what_is_stored(bench: Bench) -> None:
    """As if they had come one after the other, whichever callers sent them."""
    old, taken = new_task(digest=1), new_task(key="k", payload=b"1", digest=1)
    await bench.submit([old, taken])
    again, other = [replace(old, digest=digest) for digest in (1, 2)]
    late = new_task(key="k", payload=b"2", digest=3)
    freed = replace(late, key="other", digest=4)
    tasks = [other, again, other, again, late, freed, late, freed, new := new_task(digest=1), replace(new)]
    answers = await bench.submit(tasks)
    assert [type(answer).__name__ for answer in answers[:4]] == ["TaskIdConflict", "SubmitAnswer"] * 2
    assert [type(answer).__name__ for answer in answers[4:8]] == [
        "KeyHit", "SubmitAnswer", "TaskIdConflict", "SubmitAnswer",
    ]  # fmt: skip
    told = [answers[place] for place in (1, 3, 5, 7, 8, 9)]
    assert [answer.outcome for answer in told if isinstance(answer, SubmitAnswer)] == [2, 2, 1, 2, 1, 2]
    ((stored,),) = await bench.database.fetch("select count(*) from task")
    assert stored == 4
