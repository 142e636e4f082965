"""What a worker does not read, and what all of them do not, bounds what they are sent."""

from typing import Any

from hyrex_broker.domain.errors import Draining
from hyrex_broker.service.outbox import ALL_BACKLOGS_BYTES, BACKLOG_BYTES, FRAME_BYTES, Backlogs, StreamOutbox
from tests.unit.broker.service.test_assignments import block


def filled(backlogs: Backlogs, size: int) -> StreamOutbox:
    """A stream that has about so many bytes of runs unsent."""
    outbox = StreamOutbox(backlogs)
    outbox.push_assignments(0, 1, [block(size // FRAME_BYTES, FRAME_BYTES)])
    return outbox


def backlogged(*streams: StreamOutbox) -> list[StreamOutbox]:
    return [outbox for outbox in streams if outbox.backlogged]


def test_a_stream_is_assigned_no_more_beyond_its_backlog() -> None:
    assert filled(Backlogs(), BACKLOG_BYTES).backlogged
    assert not filled(Backlogs(), BACKLOG_BYTES - FRAME_BYTES).backlogged


def test_streams_that_are_not_read_leave_each_other_a_frame() -> None:
    backlogs = Backlogs()
    unread = [filled(backlogs, 6 * FRAME_BYTES) for _ in range(ALL_BACKLOGS_BYTES // BACKLOG_BYTES)]
    half, idle = filled(backlogs, 3 * FRAME_BYTES), StreamOutbox(backlogs)
    assert not backlogged(*unread, half, idle)
    unread += [filled(backlogs, 6 * FRAME_BYTES) for _ in range(4)]
    assert backlogged(*unread, half, idle) == [*unread, half]
    for outbox in unread:
        outbox.close()
    assert not backlogged(half, idle)


async def test_what_a_stream_has_sent_or_ended_with_counts_no_more() -> None:
    backlogs = Backlogs()
    written: list[Any] = []

    async def write(frame: Any) -> None:
        written.append(frame)
        if len(written) == 2:
            outbox.finish()

    outbox = filled(backlogs, 3 * FRAME_BYTES)
    before = backlogs.size_bytes
    await outbox.write(write)
    assert 0 < backlogs.size_bytes < before / 2
    outbox.close()
    assert backlogs.size_bytes == 0
    outbox.push_assignments(1, 2, [block(2, FRAME_BYTES)])
    outbox.end(Draining("over"))
    assert backlogs.size_bytes == 0
