"""Groups of a frame: columns agree or the group is refused, alone; one bad task harms no other."""

import time
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from hyrex.v1 import task_pb2
from hyrex.v1.task_service_pb2 import TaskGroup
from hyrex_broker.domain.blocks import TRACE_BYTES
from hyrex_broker.domain.errors import BrokerError, InvalidField, PayloadOverLimit, TaskIdOutOfWindow
from hyrex_broker.service.groups import Submission, SubmitReader, ids_of
from hyrex_broker.service.rounds import in_rounds
from tests.integration.storage.stage import make_id
from tests.support.groups import group_of, packed, ungrouped

LIMIT = 1000
TERMS = task_pb2.NewTask(name="greet", queue="default")
PARENT = make_id()


def group(count: int = 3, **changes: Any) -> TaskGroup:
    ids = packed(*(make_id() for _ in range(count)))
    values: dict[str, Any] = {"terms": TERMS, "task_ids": ids, "payloads": [b"{}"] * count}
    return TaskGroup(**(values | changes))


def read(*groups: TaskGroup) -> Submission:
    return SubmitReader(LIMIT).groups(groups)


def reasons(submission: Submission) -> dict[int, type[BrokerError]]:
    return {place: type(error) for place, error in submission.refused.items()}


def test_groups_become_blocks_with_places_that_count_through_the_frame() -> None:
    first, second = group(2), group(3, terms=task_pb2.NewTask(name="other", queue="default"))
    found = read(first, second)
    assert [(block.terms.name, list(places)) for block, places in found.blocks] == [
        ("greet", [0, 1]),
        ("other", [2, 3, 4]),
    ]
    assert b"".join(bytes.fromhex(each) for each in found.blocks[0][0].ids) == first.task_ids
    assert (found.count, found.refused) == (5, {})


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"task_ids": packed(make_id())}, "task_ids"),
        ({"task_ids": packed(make_id(), make_id(), make_id()) + b"x"}, "task_ids"),
        ({"payloads": [b""] * 4}, "task_ids"),
        ({"payloads": []}, "payloads"),
        ({"headers": [task_pb2.Headers()] * 2}, "headers"),
        ({"headers": [task_pb2.Headers()] * 4}, "headers"),
        ({"idempotency_keys": ["k"] * 2}, "idempotency_keys"),
        ({"trace_contexts": bytes(TRACE_BYTES - 1)}, "trace_contexts"),
        ({"trace_contexts": bytes(TRACE_BYTES * 2)}, "trace_contexts"),
        ({"terms": task_pb2.NewTask(name="greet", queue="q", task_id=make_id())}, "terms.task_id"),
        ({"terms": task_pb2.NewTask(name="greet", queue="q", payload=b"1")}, "terms.payload"),
        ({"terms": task_pb2.NewTask(name="greet", queue="q", headers={"a": "b"})}, "terms.headers"),
        ({"terms": task_pb2.NewTask(name="greet", queue="q", idempotency_key="k")}, "terms.idempotency_key"),
        ({"terms": task_pb2.NewTask(name="greet", queue="q", parent_id="none")}, "parent_id"),
        ({"terms": task_pb2.NewTask(name="greet")}, "queue"),
    ],
)
def test_group_with_a_wrong_column_is_refused_alone_and_named(changes: dict[str, Any], field: str) -> None:
    wrong = group(**changes)
    found = read(group(1), wrong, group(2))
    count = found.count - 3
    assert reasons(found) == dict.fromkeys(range(1, 1 + count), InvalidField)
    assert [list(places) for _, places in found.blocks] == [[0], [1 + count, 2 + count]]
    (error,) = set(found.refused.values())
    named = error.metadata["field"]
    assert named == f"groups[1].{field}" or named == field


def test_group_with_a_field_of_a_later_version_is_refused_alone_and_named() -> None:
    later = TaskGroup.FromString(group().SerializeToString() + bytes([50 << 3 & 0x7F | 0x80, 50 >> 4, 1]))
    found = read(group(1), later, group(1))
    assert reasons(found) == dict.fromkeys((1, 2, 3), InvalidField)
    assert "groups[1] = 'field 50'" in str(found.refused[1])
    assert [list(places) for _, places in found.blocks] == [[0], [4]]


@pytest.mark.parametrize("number", [100, 2000])
def test_fields_from_a_hundred_on_are_nobodys(number: int) -> None:
    tag = number << 3
    body = group().SerializeToString() + bytes([tag & 0x7F | 0x80, tag >> 7, 1])
    assert not read(TaskGroup.FromString(body)).refused


def test_one_bad_task_harms_no_other_of_its_group() -> None:
    now_ms = int(time.time() * 1000)
    ids = [make_id(), make_id(now_ms + 120_000), make_id(), make_id(), make_id(), make_id()]
    found = read(
        group(
            6,
            task_ids=packed(*ids[:5]) + bytes(16),
            payloads=[b"0", b"1", bytes(LIMIT + 1), b"3", b"4", b"5"],
            headers=[task_pb2.Headers(headers={"a": "\0" if at == 3 else "b"}) for at in range(6)],
            idempotency_keys=["k" * 256 if at == 4 else "" for at in range(6)],
        )
    )
    assert reasons(found) == {
        1: TaskIdOutOfWindow, 2: PayloadOverLimit, 3: InvalidField, 4: InvalidField, 5: InvalidField,
    }  # fmt: skip
    ((block, places),) = found.blocks
    assert (list(places), block.payloads, block.headers, block.keys) == ([0], [b"0"], [{"a": "b"}], [None])
    assert block.ids == [ids[0].replace("-", "")]


@pytest.mark.parametrize("values", [0, 1, 3])
def test_column_has_no_value_or_one_or_one_a_task(values: int) -> None:
    trace = bytes(range(TRACE_BYTES))
    found = read(
        group(
            headers=[task_pb2.Headers(headers={"a": "b"})] * values,
            idempotency_keys=["k"] * values,
            trace_contexts=trace * values,
        )
    )
    ((block, _),) = found.blocks
    columns = (block.headers, block.keys, block.trace_contexts)
    assert columns == (([{"a": "b"}] * 3, ["k"] * 3, [trace] * 3) if values else (None, None, None))


def test_trace_context_of_zeros_is_none_and_changes_no_digest() -> None:
    one = group()
    traced = TaskGroup()
    traced.CopyFrom(one)
    traced.trace_contexts = bytes(TRACE_BYTES) + b"\1" * TRACE_BYTES * 2
    ((plain, _),), ((other, _),) = read(one).blocks, read(traced).blocks
    assert other.trace_contexts == [None, b"\1" * TRACE_BYTES, b"\1" * TRACE_BYTES]
    assert other.digests == plain.digests


FORMS: list[dict[str, Any]] = [
    {},
    {"headers": {"a": "b"}},
    {"idempotency_key": "k"},
    {"headers": {"a": "b"}, "idempotency_key": "k"},
    {"parent_id": PARENT, "root_id": PARENT},
    {"delay": Duration(seconds=3), "headers": {"c": "d"}},
    {"priority": 7},
]


def test_task_is_the_same_whether_sent_alone_or_in_a_group() -> None:
    tasks = [
        task_pb2.NewTask(task_id=make_id(), name="greet", queue="default", payload=b"1", **form)
        for form in FORMS
    ]
    grouped = [block.digests[0] for block, _ in read(*map(group_of, tasks)).blocks]
    together = TaskGroup(
        terms=TERMS,
        task_ids=packed(*(task.task_id for task in tasks[:4])),
        payloads=[b"1"] * 4,
        headers=[task_pb2.Headers(headers=task.headers) for task in tasks[:4]],
        idempotency_keys=[task.idempotency_key for task in tasks[:4]],
    )
    assert list(read(together).blocks[0][0].digests) == grouped[:4]
    alone: dict[int, int] = {}
    for block, places in SubmitReader(LIMIT).tasks([*ungrouped(map(group_of, tasks))]).blocks:
        alone |= dict(zip(places, block.digests, strict=True))
    assert [alone[place] for place in range(len(tasks))] == grouped
    assert len(set(grouped)) == len(FORMS)


def test_single_tasks_of_equal_terms_are_one_block() -> None:
    tasks = [task_pb2.NewTask(task_id=make_id(), name=f"n{at % 2}", queue="q") for at in range(6)]
    found = SubmitReader(LIMIT).tasks(tasks)
    assert [list(places) for _, places in found.blocks] == [[0, 2, 4], [1, 3, 5]]


def test_answer_names_what_can_be_named() -> None:
    whole, torn = group(2), group(task_ids=packed(make_id()) + b"x", payloads=[b""] * 3)
    assert ids_of([whole, torn]) == [
        *(task.task_id for task in ungrouped([whole])),
        *(task.task_id for task in ungrouped([TaskGroup(task_ids=torn.task_ids[:16], payloads=[b""])])),
        "",
        "",
    ]


def test_an_id_that_comes_twice_in_one_group_is_stored_in_two_rounds() -> None:
    """With a key first, then without: each goes its own way, and the first is to be stored first."""
    ids = [make_id(), make_id()]
    found = read(group(3, task_ids=packed(ids[0], ids[1], ids[0]), idempotency_keys=["key", "", ""]))
    rounds = [[list(places) for _, places in blocks] for blocks in in_rounds(found.blocks)]
    assert rounds == [[[0, 1]], [[2]]]


@pytest.mark.parametrize("kind", ["concurrency_key", "fair_key"])
def test_a_key_in_the_terms_is_that_of_each_task_and_the_same_as_in_the_column(kind: str) -> None:
    ids = packed(make_id(), make_id())
    terms: dict[str, Any] = {"name": "work", "queue": "default"}
    columns: dict[str, Any] = {"task_ids": ids, "payloads": [b"1", b"2"]}
    keys: dict[str, Any] = {f"{kind}s": ["k"]}
    column = TaskGroup(terms=task_pb2.NewTask(**terms), **columns, **keys)
    shared = TaskGroup(terms=task_pb2.NewTask(**(terms | {kind: "k"})), **columns)
    ((first, _),), ((second, _),) = read(column).blocks, read(shared).blocks
    assert getattr(second, f"{kind}s") == getattr(first, f"{kind}s") == ["k", "k"]
    assert second.digests == first.digests


def test_tasks_that_differ_in_one_key_are_no_repetition_of_each_other() -> None:
    """Also where the key is the same text as one of another kind."""
    keys: list[dict[str, Any]] = [
        {}, {"idempotency_key": "k"}, {"concurrency_key": "k"}, {"fair_key": "k"}, {"fair_key": "l"},
        {"headers": {"k": "k"}}, {"fair_key": "k", "concurrency_key": "k"},
    ]  # fmt: skip
    tasks = [task_pb2.NewTask(task_id=make_id(), name="work", queue="default", **each) for each in keys]
    found = SubmitReader(1000).tasks(tasks)
    assert len({digest for block, _ in found.blocks for digest in block.digests}) == len(keys)


@pytest.mark.parametrize("most", [-1, 1001])
def test_a_maximum_of_a_key_out_of_its_bounds_is_refused(most: int) -> None:
    terms = task_pb2.NewTask(name="work", queue="default", concurrency_key="k", max_per_key=most)
    found = read(TaskGroup(terms=terms, task_ids=packed(make_id()), payloads=[b"1"]))
    assert str(found.refused[0]) == f"max_per_key = {most}: must lie between 0 and 1000"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"max_per_key": 2}, "max_per_key = 2: is for tasks with a concurrency_key"),
        ({"on_full": task_pb2.ON_FULL_REFUSE}, "on_full = 2: is for tasks with a concurrency_key"),
    ],
)
def test_who_says_how_many_of_a_key_and_forgets_the_key_is_told(said: dict[str, Any], words: str) -> None:
    """Also of one task among others of the group that have one, and of a task that came alone."""
    terms = task_pb2.NewTask(name="work", queue="default", **said)
    ids = packed(make_id(), make_id())
    none = read(TaskGroup(terms=terms, task_ids=ids, payloads=[b"1", b"2"]))
    assert [str(error) for error in none.refused.values()] == [words, words]
    some = read(TaskGroup(terms=terms, task_ids=ids, payloads=[b"1", b"2"], concurrency_keys=["k", ""]))
    assert {place: str(error) for place, error in some.refused.items()} == {1: words}
    assert [list(places) for _, places in some.blocks] == [[0]]
    terms.task_id, terms.payload = make_id(), b"1"
    alone = SubmitReader(1000).tasks([terms])
    assert [str(error) for error in alone.refused.values()] == [words]
