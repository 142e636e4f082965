"""Fair turns: shares by cost, small requests first, nobody starved, nothing kept of those that have gone."""

import asyncio
from typing import TypeGuard

from hypothesis import given
from hypothesis import strategies as st

from hyrex_broker.engine.fairness import Admission, FairQueue, Permit, UnderWay
from tests.support.loops import settle


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
    admission, order = Admission(100), []

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
        await settle()
        assert order == ["bulk", "single"]
        first.set()
    assert order == ["bulk", "single", "other", "bulk"]


async def test_little_requests_have_a_reserve_with_an_end() -> None:
    admission = Admission(100)
    await admission.enter("bulk", 100)
    for number in range(10):
        await asyncio.wait_for(admission.enter(f"caller {number}", 10), 60)
    late = asyncio.ensure_future(admission.enter("one more", 10))
    await settle()
    assert not late.done()
    late.cancel()


async def test_whoever_leaves_while_waiting_takes_nothing_of_the_budget() -> None:
    admission = Admission(100, has_reserve=False)
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
    admission = Admission(100, has_reserve=False)
    permits = [await admission.enter("a", count) for count in (0, 5, 0)]
    for permit in permits:
        permit.leave()


def test_a_quarter_of_what_the_caller_of_a_typical_item_has_under_way_is_little() -> None:
    callers = UnderWay(lambda: 0.0)
    callers.begin("bulk", 1000)
    for number in range(1000):  # which have as much together, and make the mean over all callers a 2
        callers.begin(number, 1)
    callers.begin("web", 100)
    assert callers.is_little("web")
    callers.begin("web", 50)
    assert not callers.is_little("web")


def test_of_callers_that_have_the_same_under_way_none_has_little() -> None:
    callers = UnderWay(lambda: 0.0)
    for number in range(40):
        callers.begin(number, 3)
    assert not any(callers.is_little(number) for number in range(40))


def test_bulk_that_was_answered_a_moment_ago_is_bulk_still_and_later_it_is_not() -> None:
    now = 10.0
    callers = UnderWay(lambda: now)
    for caller in "ab":
        callers.begin(caller, 100)
        callers.end(caller, 100)
    now = 10.9
    callers.begin("a", 1)
    assert not callers.is_little("a")
    callers.end("a", 1)
    now = 12.0
    callers.begin("b", 100)
    callers.begin("a", 1)
    assert callers.is_little("a")


def test_bulk_counts_for_as_long_as_it_is_under_way() -> None:
    times = iter([10.0, 20.0, 20.2, 30.0])
    callers = UnderWay(lambda: next(times))
    callers.begin("bulk", 100)
    for _ in range(3):
        callers.begin("single", 1)
        assert callers.is_little("single")
        callers.end("single", 1)


def is_permit(each: Permit | BaseException) -> TypeGuard[Permit]:
    return isinstance(each, Permit)
