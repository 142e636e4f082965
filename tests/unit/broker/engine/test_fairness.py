"""Fair turns: shares by cost, small requests first, nobody starved, nothing kept of those that have gone."""

import asyncio
from typing import TypeGuard

from hypothesis import given
from hypothesis import strategies as st

from hyrex_broker.engine.fairness import Admission, FairQueue, Permit


def left(queue: FairQueue[str]) -> list[str]:
    return queue.take_all()


def test_a_small_request_leaves_before_larger_ones_that_came_before_it() -> None:
    queue: FairQueue[str] = FairQueue()
    for caller in "abc":
        for number in range(3):
            queue.push(caller, 1000, f"{caller}{number}")
    queue.push("d", 1, "single")
    assert left(queue) == ["single", "a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2"]


def test_a_large_request_is_not_starved_by_small_ones_of_others() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.push("large", 100, "large")
    for number in range(200):
        queue.push(f"caller {number}", 1, "small")
        if queue.pop() == "large":
            break
    assert number <= 100


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 1000)), max_size=100))
def test_what_waits_leaves_once_and_each_callers_in_order(pushed: list[tuple[str, int]]) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for number, (caller, cost) in enumerate(pushed):
        queue.push(caller, cost, (caller, number))
    taken = queue.take_all()
    assert sorted(number for _, number in taken) == list(range(len(pushed)))
    for caller in "abcd":
        mine = [number for each, number in taken if each == caller]
        assert mine == sorted(mine)
    assert not queue._last, "callers that have nothing waiting are forgotten"


async def test_a_request_beyond_the_budget_waits_and_a_little_one_does_not() -> None:
    admission, order = Admission(100, 10), []

    async def ask(caller: str, cost: int, until: asyncio.Event) -> None:
        permit = await admission.enter(caller, cost)
        order.append(caller)
        await until.wait()
        permit.leave()

    first, rest = asyncio.Event(), asyncio.Event()
    rest.set()
    async with asyncio.TaskGroup() as group:
        group.create_task(ask("bulk", 90, first))
        group.create_task(ask("bulk", 90, rest))
        group.create_task(ask("other", 50, rest))
        group.create_task(ask("single", 5, rest))
        await asyncio.sleep(0.01)
        assert order == ["bulk", "single"]
        first.set()
    assert order == ["bulk", "single", "other", "bulk"]


async def test_little_requests_have_a_reserve_with_an_end() -> None:
    admission = Admission(100, 10)
    await admission.enter("bulk", 100)
    for number in range(10):
        await asyncio.wait_for(admission.enter(f"caller {number}", 10), 60)
    late = asyncio.ensure_future(admission.enter("one more", 10))
    await asyncio.sleep(0.01)
    assert not late.done()
    late.cancel()


async def test_whoever_leaves_while_waiting_takes_nothing_of_the_budget() -> None:
    admission = Admission(100, 0)
    for _ in range(20):
        held = await admission.enter("b", 80)
        waiting = [asyncio.ensure_future(admission.enter("a", 80)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        held.leave()
        waiting[1].cancel()  # admitted in this very moment
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        (third,) = [each for each in ended if is_permit(each)]
        third.leave()
    (await asyncio.wait_for(admission.enter("a", 80), 60)).leave()


async def test_whoever_asks_for_nothing_is_under_way_all_the_same() -> None:
    admission = Admission(100, 0)
    permits = [await admission.enter("a", count) for count in (0, 5, 0)]
    for permit in permits:
        permit.leave()


def is_permit(each: Permit | BaseException) -> TypeGuard[Permit]:
    return isinstance(each, Permit)
