"""Blocks become frames: within their bounds, with every run once and in order."""

from typing import Any

import pytest

from hyrex_broker.domain.assigned import AssignedBlock, Headers, SharedTerms
from hyrex_broker.domain.ids import ABSENT, HexId
from hyrex_broker.domain.model import CarriedOptions, LaneId, SessionId, Token
from hyrex_broker.service.assignments import FRAME_RUNS, frames
from tests.support.columns import Assignment, assigned

LIMIT = 100_000
TERMS = SharedTerms("work", "default", 5, 3, 1500, alone=True, carried=CarriedOptions("text/plain", "zstd"))


def block(count: int, size: int = 2, **columns: Any) -> AssignedBlock:
    """So many runs with payloads of that size, numbered from 1."""
    return AssignedBlock(
        SessionId(1), 7, LaneId(1), TERMS,
        [HexId(f"{number:032x}") for number in range(1, count + 1)],
        [Token(number) for number in range(1, count + 1)],
        [b"x" * size] * count,
        **columns,
    )  # fmt: skip


def sent(blocks: list[AssignedBlock]) -> list[list[Assignment]]:
    """The runs of each frame, whose sizes are as they are told."""
    made = frames(blocks, LIMIT)
    assert all(frame.ByteSize() <= size for frame, size in made)
    return [assigned(frame.assignments) for frame, _ in made]


def test_a_run_arrives_with_all_that_was_stored_of_it() -> None:
    columns: dict[str, Any] = {
        "submitted_us": [5],
        "run_numbers": [3],
        "attempt_numbers": [2],
        "headers": [{"a": "b"}],
    }
    relatives: dict[str, Any] = {"parent_ids": [HexId("0" * 31 + "8")], "root_ids": [HexId("0" * 31 + "9")]}
    ((run,),) = sent([block(1, **columns, **relatives)])
    assert run == Assignment(
        "00000000-0000-0000-0000-000000000001", 1, "work", "default", b"xx", "text/plain", "zstd", 3, 2, 3, 5,
        1.5, "00000000-0000-0000-0000-000000000008", "00000000-0000-0000-0000-000000000009", 5,
        {"a": "b"}, True,
    )  # fmt: skip


@pytest.mark.parametrize(("count", "size"), [(2500, 2), (37, 30_000), (3, 200_000), (1, 1)])
def test_frames_hold_no_more_than_they_may_and_every_run_once(count: int, size: int) -> None:
    told = sent([block(count, size), block(count, size)])
    assert all(len(runs) == 1 or sum(len(run.payload) for run in runs) <= LIMIT for runs in told)
    assert max(map(len, told)) <= FRAME_RUNS
    assert [run.token for runs in told for run in runs] == [*range(1, count + 1)] * 2


def test_blocks_of_different_terms_share_a_frame() -> None:
    assert [len(runs) for runs in sent([block(3), block(4)])] == [7]


def test_headers_count_as_bytes_of_their_frame() -> None:
    headers: list[Headers] = [{"a": "x" * 40_000}] * 5
    assert [len(runs) for runs in sent([block(5, headers=headers)])] == [2, 2, 1]


def test_columns_are_cut_with_their_runs() -> None:
    numbers = [*range(1500)]
    parents = [ABSENT if number % 2 else HexId(f"{number:032x}") for number in numbers]
    told = sent([block(1500, run_numbers=numbers, parent_ids=parents, attempt_numbers=[4])])
    runs = [run for frame in told for run in frame]
    assert [run.run_number for run in runs] == numbers
    assert {run.attempt_number for run in runs} == {4}
    assert [bool(run.parent_id) for run in runs] == [number > 0 and number % 2 == 0 for number in numbers]
