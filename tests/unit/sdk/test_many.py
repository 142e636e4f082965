"""send_many keeps payloads and specs alone: ids in bulk, handles when asked for, groups as they are."""

import pickle
import sys
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from uuid import RFC_4122, UUID

import pytest

from hyrex import SendManyFailed, send_many
from hyrex.backend import ids
from hyrex.backend.ids import ID_BYTES, IdSource
from hyrex.backend.origin import NOWHERE
from hyrex.backend.outgoing import OutgoingBatch, prepare_many
from hyrex.transport.convert import submit_groups
from hyrex.v1 import task_service_pb2
from tests.support.groups import ungrouped
from tests.support.scripted_tasks import ScriptedTasks, Server, rejected, stored
from tests.unit.sdk.sent_tasks import add


def cut(packed: bytes) -> list[str]:
    return [str(UUID(bytes=packed[at : at + ID_BYTES])) for at in range(0, len(packed), ID_BYTES)]


def test_ids_in_bulk_are_those_of_single_ones() -> None:
    source = IdSource()
    made = [source.new(), *cut(source.many(1000)), source.new(), *cut(source.many(3)), source.new()]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert {(UUID(each).version, UUID(each).variant) for each in made} == {(7, RFC_4122)}
    assert source.many(0) == b""


def test_ids_in_bulk_go_on_in_the_next_millisecond_where_the_counter_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_000_000_000)
    source = IdSource()
    before = source.new()
    source._moment.numbers = iter(range((1 << ids.COUNTER_BITS) - 5, (1 << ids.COUNTER_BITS) + 100))  # type: ignore[assignment]
    made = cut(source.many(50))
    assert len(set(made)) == 50
    assert [before, *made] == sorted([before, *made])
    assert {UUID(each).int >> 80 for each in made} == {1_700_000_000_001}


def test_ids_of_threads_differ() -> None:
    source = IdSource()
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(source.many, [500] * 40))
    made = [each for part in parts for each in cut(part)]
    assert len(set(made)) == len(made) == 20_000


def batch_of_two() -> OutgoingBatch:
    specs = [add._spec, add.with_config(headers={"a": "b"}, idempotency_key="k")._spec]
    return prepare_many([specs[at % 2] for at in range(7)], [b"%d" % at for at in range(7)])


def test_batch_is_a_sequence_of_its_tasks() -> None:
    batch = batch_of_two()
    every = list(batch)
    assert [task.payload for task in every] == [b"%d" % at for at in range(7)]
    for part in (batch[2:5], batch[:], batch[5:], batch[-2:], batch[::3], batch[4:2]):
        assert isinstance(part, OutgoingBatch)
    assert [task.task_id for task in batch[2:5]] == [task.task_id for task in every[2:5]]
    assert [task.spec for task in batch[::3]] == [task.spec for task in every[::3]]
    assert batch[-1].task_id == every[-1].task_id
    with pytest.raises(IndexError):
        batch[7]
    renewed = list(batch.renewed([1, 6]))
    same = [new.task_id == old.task_id for new, old in zip(renewed, every, strict=True)]
    assert same == [True, False, True, True, True, True, False]


@pytest.mark.parametrize("kinds", [1, 2])
def test_groups_of_a_batch_are_those_of_its_single_tasks(kinds: int) -> None:
    batch = batch_of_two()
    batch = batch if kinds == 2 else OutgoingBatch(batch.ids, batch.specs[1:2], batch.payloads, NOWHERE)
    frames = [submit_groups(batch), submit_groups(list(batch))]
    found = []
    for body, order in frames:
        tasks = list(ungrouped(task_service_pb2.StreamSubmitRequest.FromString(body).groups))
        found.append(
            {at: task.SerializeToString(deterministic=True) for at, task in zip(order, tasks, strict=True)}
        )
    assert found[0] == found[1]
    assert len(found[0]) == 7


def test_handles_are_made_once_and_know_what_became_of_their_tasks(
    server: Server, tasks: ScriptedTasks
) -> None:
    handles = send_many(add.call(n) for n in range(5))
    assert handles[3] is handles[3] is handles[-2] is list(handles)[3]
    assert [str(handle.id) for handle in handles] == [task.task_id for task in tasks.submitted]
    assert {handle.status for handle in handles[1:4]} == {"queued"}
    copies = pickle.loads(pickle.dumps(handles))
    assert [copy.id for copy in copies] == [handle.id for handle in handles]


def test_handles_of_refused_tasks_can_be_sent_again(server: Server, tasks: ScriptedTasks) -> None:
    refuse = rejected("INVALID_FIELD")
    tasks.answer = lambda task: refuse(task) if b'"a":1' in task.payload else stored(task)
    with pytest.raises(SendManyFailed) as caught:
        send_many(add.call(n) for n in range(3))
    handles = caught.value.handles
    tasks.answer = stored
    handles[1].resend()
    assert [handle.status for handle in handles] == ["queued"] * 3


def test_many_calls_cost_little_more_than_their_payloads(server: Server, tasks: ScriptedTasks) -> None:
    tasks.frames = _Forgetful()  # type: ignore[assignment]
    count = 20_000
    send_many(add.call(n) for n in range(10))
    tracemalloc.start()
    handles = send_many(add.call(n) for n in range(count))
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    payload = sys.getsizeof(b'{"a":10000}')
    assert len(handles) == count
    assert kept < count * (payload + ID_BYTES + 24), kept / count


class _Forgetful(list[object]):
    def append(self, value: object) -> None:
        """Keep nothing."""
