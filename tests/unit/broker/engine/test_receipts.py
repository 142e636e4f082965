"""What a worker has read says which runs it must hold: those of every statement that the receipt covers."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyrex.v1 import worker_service_pb2 as wire
from hyrex_broker.domain.assigned import AssignedBlock
from hyrex_broker.domain.model import SessionId, Token
from hyrex_broker.engine.sessions.session import ServedSession, WorkerProfile
from hyrex_broker.service import outbox as streams
from tests.support.columns import assigned
from tests.unit.broker.service.test_assignments import block

FRAME_BYTES = 1000
_parts = st.lists(st.integers(1, 3), min_size=1, max_size=2)
"""So many runs in each of the parts in which a statement's runs are sent."""


def runs(sequence: int, part: int, count: int) -> AssignedBlock:
    """Runs of a statement: two of them do not fit in a frame. Their tokens tell the statement."""
    tokens = [Token(sequence * 100 + part * 10 + place) for place in range(count)]
    return replace(block(count, FRAME_BYTES * 2 // 3), tokens=tokens)


def served() -> tuple[ServedSession, streams.StreamOutbox]:
    stream = streams.StreamOutbox()
    return ServedSession(SessionId(1), 1, b"", WorkerProfile((), {}), {"": 1000}, stream), stream


def read(stream: streams.StreamOutbox, count: int) -> list[tuple[int, list[int]]]:
    """The receipt of each frame and the tokens of its runs, of which there are so many."""
    found: list[tuple[int, list[int]]] = []

    async def write(frame: wire.WorkResponse) -> None:
        found.append((frame.assignments.sequence, [run.token for run in assigned(frame.assignments)]))
        if sum(len(tokens) for _, tokens in found) == count:
            stream.finish()

    asyncio.run(asyncio.wait_for(stream.write(write), 60))
    return found


@given(statements=st.lists(_parts, min_size=1, max_size=4), order=st.randoms(use_true_random=False))
def test_a_receipt_is_for_no_run_that_is_still_to_be_read(
    statements: list[list[int]], order: random.Random
) -> None:
    session, stream = served()
    waiting = {session.next_sequence(): list(enumerate(parts)) for parts in statements}
    tokens = {
        sequence: {token for part, count in parts for token in runs(sequence, part, count).tokens}
        for sequence, parts in waiting.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "FRAME_BYTES", FRAME_BYTES)
        while waiting:
            sequence = order.choice(sorted(waiting))
            part, count = waiting[sequence].pop(0)
            if waiting[sequence]:
                session.trailing.add(sequence)
                session.push([runs(sequence, part, count)])
            else:
                del waiting[sequence]
                session.push([runs(sequence, part, count)], last_of=sequence)
    frames = read(stream, sum(map(len, tokens.values())))
    check(frames, tokens)
    assert frames[-1][0] == session.sequence


def check(frames: Sequence[tuple[int, list[int]]], tokens: dict[int, set[Token]]) -> None:
    """Receipts never fall, and the runs of all statements that one covers have been read."""
    held: set[int] = set()
    before = 0
    for receipt, some in frames:
        held.update(some)
        assert receipt >= before
        before = receipt
        for sequence, all_of_it in tokens.items():
            assert sequence > receipt or all_of_it <= held


def test_the_last_of_a_statement_may_have_no_runs_left_to_send() -> None:
    session, stream = served()
    first = session.next_sequence()
    session.trailing.add(first)
    session.push([runs(first, 0, 1)])
    session.push([], last_of=first)
    second = session.next_sequence()
    session.push([runs(second, 0, 1)], last_of=second)
    assert [receipt for receipt, _ in read(stream, 2)] == [first - 1, second]
