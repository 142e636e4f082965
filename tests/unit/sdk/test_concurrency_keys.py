"""Concurrency keys in the SDK: what makes them, what they may be, and how they are sent."""

import pickle
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from hyrex import HyrexRegistry, KeyBusy
from hyrex.backend.outgoing import prepare, prepare_many
from hyrex.testing import inline
from hyrex.transport import convert
from hyrex.v1 import task_pb2, task_service_pb2
from tests.support.groups import ungrouped

hy = HyrexRegistry()


class Order(BaseModel):
    tenant: str


@hy.task(concurrency_key=lambda order: order.tenant, max_per_key=2)
def ship(order: Order) -> None:
    """Do nothing."""


@hy.task(concurrency_key=lambda tenant, amount: tenant or None, on_full="refuse")
def charge(tenant: str, amount: int = 1) -> None:
    """Do nothing."""


def sent(*calls: Any) -> list[task_pb2.NewTask]:
    """The tasks of calls, as a frame has them."""
    batch = prepare_many([call._spec for call in calls], [call._payload for call in calls])
    groups, _ = convert.submit_groups(batch)
    return list(ungrouped(task_service_pb2.StreamSubmitRequest.FromString(groups).groups))


def test_the_key_is_made_of_validated_arguments() -> None:
    (task,) = sent(ship.call({"tenant": "acme"}))  # type: ignore[arg-type]
    assert (task.concurrency_key, task.max_per_key, task.on_full) == ("acme", 2, task_pb2.ON_FULL_UNSPECIFIED)


def test_tasks_of_several_keys_share_a_group_and_one_without_a_key_says_nothing_of_its_maximum() -> None:
    """Wherever it stands: its terms are compared when it is sent again, among others."""
    calls = [charge.call("a"), charge.call("", 5), charge.call("b")]
    tasks = sorted(sent(*calls), key=lambda task: task.concurrency_key)
    assert [task.concurrency_key for task in tasks] == ["", "a", "b"]
    assert [task.on_full for task in tasks] == [0, task_pb2.ON_FULL_REFUSE, task_pb2.ON_FULL_REFUSE]
    (alone,) = sent(calls[1])
    assert (alone.on_full, alone.max_per_key) == (0, 0)
    (single,) = task_service_pb2.SubmitTasksRequest.FromString(
        convert.submit_request([prepare(calls[1]._spec, b"{}")])
    ).tasks
    assert single.on_full == 0
    groups, _ = convert.submit_groups(
        [prepare(each._spec, b"{}") for each in (charge.call("a"), charge.call("b"))]
    )
    assert len(task_service_pb2.StreamSubmitRequest.FromString(groups).groups) == 1


def test_with_config_says_the_key_itself_or_that_there_is_none() -> None:
    said = charge.with_config(concurrency_key=7, max_per_key=3, on_full="wait")
    (task,) = sent(said.call("a"))
    assert (task.concurrency_key, task.max_per_key, task.on_full) == ("7", 3, task_pb2.ON_FULL_UNSPECIFIED)
    (task,) = sent(charge.with_config(concurrency_key=None).call("a"))
    assert task.concurrency_key == ""


@pytest.mark.parametrize("key", ["text", 7, UUID(int=1)])
def test_keys_are_texts_numbers_or_uuids(key: Any) -> None:
    task = HyrexRegistry().task(concurrency_key=lambda: key)(_nothing)
    (found,) = sent(task.call())
    assert found.concurrency_key == str(key)


def _nothing() -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    ("key", "error"),
    [(True, TypeError), (1.5, TypeError), ("", ValueError), ("a\0", ValueError), ("x" * 256, ValueError)],
)
def test_what_is_no_key_is_refused_before_anything_is_sent(key: Any, error: type[Exception]) -> None:
    task = HyrexRegistry().task(concurrency_key=lambda: key)(_nothing)
    with pytest.raises(error, match=r"concurrency_key must .* from the function that makes it"):
        task.call()
    with pytest.raises(error, match="concurrency_key"):
        task.with_config(concurrency_key=key)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"concurrency_key": lambda order: order}, "is called with the task's arguments"),
        ({"concurrency_key": "k", "max_per_key": 0}, "max_per_key must be 1..1000, got 0"),
        ({"concurrency_key": "k", "max_per_key": 1001}, "max_per_key must be 1..1000, got 1001"),
        ({"concurrency_key": "k", "max_per_key": True}, "max_per_key must be an int"),
        ({"concurrency_key": "k", "on_full": "drop"}, "on_full must be 'wait' or 'refuse', got 'drop'"),
        ({"concurrency_key": "k", "on_full": None}, "on_full must be 'wait' or 'refuse'"),
        ({"max_per_key": 2}, "are for tasks with a concurrency_key; give that too"),
        ({"on_full": "refuse"}, "are for tasks with a concurrency_key; give that too"),
        ({"concurrency_key": b"k"}, "concurrency_key must be a str"),
    ],
)
def test_bad_options_are_refused_at_the_decorator(options: dict[str, Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        HyrexRegistry().task(**options)(_nothing)


def test_a_coroutine_makes_no_keys() -> None:
    async def key() -> str:
        return "k"

    with pytest.raises(TypeError, match="plain function"):
        HyrexRegistry().task(concurrency_key=key)(_nothing)  # type: ignore[arg-type]


def test_calls_with_keys_can_be_pickled() -> None:
    call = pickle.loads(pickle.dumps(ship.call(Order(tenant="acme"))))
    (task,) = sent(call)
    assert (task.concurrency_key, task.max_per_key) == ("acme", 2)
    again = pickle.loads(pickle.dumps(charge.with_config(priority=7)))
    assert sent(again.call("b"))[0].concurrency_key == "b"


def test_a_send_with_a_debounce_key_has_no_concurrency_key() -> None:
    """Here as at a broker, so that inline() shows it too, also where the arguments make the key."""
    with pytest.raises(ValueError, match="debounce_key or concurrency_key, not both"):
        charge.with_config(concurrency_key="a", debounce_key="b", delay=1)
    both = charge.with_config(debounce_key="b", delay=1)
    with inline(hy), pytest.raises(ValueError, match="debounce_key or concurrency_key, not both"):
        both.send("a")
    (task,) = sent(both.with_config(concurrency_key=None).call("a"))
    assert (task.debounce_key, task.concurrency_key) == ("b", "")


def test_inline_a_task_that_sends_its_own_key_is_refused() -> None:
    registry = HyrexRegistry()
    refused: list[KeyBusy] = []

    @registry.task(concurrency_key="one", on_full="refuse")
    def singleton(depth: int) -> None:
        """Send itself once more."""
        try:
            singleton.send(depth + 1)
        except KeyBusy as error:
            refused.append(error)

    with inline(registry) as tasks:
        handle = singleton.send(0)
        singleton.send(1)
    assert refused[0].holder == handle.id
    assert len(refused) == len(tasks.sent) == 2
