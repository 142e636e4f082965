"""Lists come newest first, whole, and page by page, whatever the filter."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest

from hyrex_broker.domain.model import TaskId
from hyrex_broker.domain.selection import Selection
from hyrex_broker.domain.states import TaskState
from hyrex_broker.storage import listing
from hyrex_broker.storage.listing import TaskLists
from hyrex_broker.storage.pool import Database
from tests.integration.service.seeding import Seed, make_id


@pytest.fixture
def lists(database: Database) -> TaskLists:
    return TaskLists(database)


@pytest.fixture
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scans look at two rows first, so that a handful of tasks takes many steps."""
    monkeypatch.setattr(listing, "_FIRST_LOOK", 2)
    monkeypatch.setattr(listing, "_LONGEST_LOOK", 3)


async def everything(lists: TaskLists, selection: Selection, size: int = 3) -> list[TaskId]:
    """All pages, one after the other."""
    found: list[TaskId] = []
    before: TaskId | None = None
    while True:
        page = await lists.page(selection, before, size)
        assert len(page.tasks) <= size
        found += [task.task_id for task in page.tasks]
        if page.before is None:
            return found
        before = page.before


async def one_of_each_state(seed: Seed) -> dict[TaskState, list[TaskId]]:
    session = await seed.session()
    of: dict[TaskState, list[TaskId]] = {state: [] for state in TaskState}
    for _ in range(3):
        of[TaskState.QUEUED].append(await seed.ready(await seed.task()))
        of[TaskState.SCHEDULED].append(await seed.delayed(await seed.task()))
        of[TaskState.RETRYING].append(await seed.delayed(await seed.task(), run_number=1))
        of[TaskState.RUNNING].append(await seed.lease(await seed.task(), session))
        for state, outcome in ((5, 2), (6, 3), (7, 4), (8, 5), (9, 6)):
            task_id = await seed.run(await seed.task(), 3, 0, final=False)
            of[TaskState(state)].append(await seed.run(task_id, outcome, 1))
        # Ended badly once, reopened, and completed: it counts once, as completed.
        reopened = await seed.run(await seed.task(), 3, 0)
        of[TaskState.COMPLETED].append(await seed.run(reopened, 2, 1))
        # Completed once, reopened, and queued.
        of[TaskState.QUEUED].append(await seed.ready(await seed.run(await seed.task(), 2, 0), 1))
    return of


@pytest.mark.usefixtures("short_looks")
@pytest.mark.parametrize("state", TaskState)
async def test_a_list_of_one_state_has_all_of_its_tasks_and_no_others(
    lists: TaskLists, seed: Seed, state: TaskState
) -> None:
    of = await one_of_each_state(seed)
    found = await everything(lists, Selection(states=frozenset({state})))
    assert found == sorted(of[state], reverse=True)


@pytest.mark.usefixtures("short_looks")
async def test_lists_of_several_states_and_of_any_are_merged_by_age(lists: TaskLists, seed: Seed) -> None:
    of = await one_of_each_state(seed)
    some = frozenset({TaskState.RUNNING, TaskState.FAILED, TaskState.COMPLETED, TaskState.RETRYING})
    expected = sorted((task_id for state in some for task_id in of[state]), reverse=True)
    assert await everything(lists, Selection(states=some)) == expected
    every = sorted((task_id for ids in of.values() for task_id in ids), reverse=True)
    assert await everything(lists, Selection()) == every
    assert await everything(lists, Selection(states=frozenset(TaskState)), size=1000) == every


@pytest.mark.usefixtures("short_looks")
async def test_queue_and_name_narrow_every_kind_of_scan(lists: TaskLists, seed: Seed) -> None:
    session = await seed.session()
    wanted = []
    for queue, name in (("mail", "send"), ("mail", "else"), ("other", "send"), ("mail", "send")) * 2:
        ids = [
            await seed.ready(await seed.task(queue=queue, name=name)),
            await seed.lease(await seed.task(queue=queue, name=name), session),
            await seed.run(await seed.task(queue=queue, name=name), 2),
            await seed.run(await seed.task(queue=queue, name=name), 3),
        ]
        wanted += ids if (queue, name) == ("mail", "send") else []
    states = frozenset({TaskState.QUEUED, TaskState.RUNNING, TaskState.COMPLETED, TaskState.FAILED})
    expected = sorted(wanted, reverse=True)
    assert await everything(lists, Selection(queue="mail", name="send")) == expected
    assert await everything(lists, Selection(queue="mail", name="send", states=states)) == expected
    assert await everything(lists, Selection(queue="absent")) == []


@pytest.mark.usefixtures("short_looks")
async def test_a_family_is_listed_by_parent_and_by_root(lists: TaskLists, seed: Seed) -> None:
    root = await seed.ready(await seed.task())
    children = [await seed.ready(await seed.task(parent_id=root, root_id=root)) for _ in range(5)]
    grandchildren = [await seed.run(await seed.task(parent_id=children[0], root_id=root)) for _ in range(5)]
    assert await everything(lists, Selection(parent_id=root)) == sorted(children, reverse=True)
    below = sorted(children + grandchildren, reverse=True)
    assert await everything(lists, Selection(root_id=root)) == below
    completed = Selection(root_id=root, states=frozenset({TaskState.COMPLETED}))
    assert await everything(lists, completed) == sorted(grandchildren, reverse=True)
    both = Selection(parent_id=children[0], root_id=root)
    assert await everything(lists, both) == sorted(grandchildren, reverse=True)


async def test_a_time_range_is_taken_from_the_ids(lists: TaskLists, seed: Seed) -> None:
    base = int(datetime.now(UTC).timestamp() * 1000) - 10_000
    ids = [await seed.ready(await seed.task(make_id(base + second * 1000))) for second in range(5)]
    at = [datetime.fromtimestamp((base + second * 1000) / 1000, UTC) for second in range(5)]
    found = await everything(lists, Selection(created_after=at[1], created_before=at[4]))
    assert found == [ids[3], ids[2], ids[1]]


async def test_a_filter_that_fits_little_ends_its_page_by_time(
    lists: TaskLists, seed: Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = await seed.ready(await seed.task(queue="rare"))
    for _ in range(20):
        await seed.ready(await seed.task())
    monkeypatch.setattr(listing, "_FIRST_LOOK", 2)
    monkeypatch.setattr(listing, "_TIME_BUDGET_S", 0.0)
    page = await lists.page(Selection(queue="rare"), None, 2)
    assert (page.tasks, page.before is None) == ([], False)
    assert await everything(lists, Selection(queue="rare"), size=2) == [wanted]


async def test_pages_are_disjoint_while_tasks_arrive(lists: TaskLists, seed: Seed) -> None:
    old = [await seed.ready(await seed.task()) for _ in range(6)]
    first = await lists.page(Selection(), None, 3)
    await seed.ready(await seed.task())
    second = await lists.page(Selection(), first.before, 3)
    found = [task.task_id for task in first.tasks + second.tasks]
    assert found == sorted(old, reverse=True)
    assert all(newer > older for newer, older in pairwise(found))
