"""Rows of an assign as blocks: one for each session, lane and terms."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any, Final

from hyrex_broker.domain import ids
from hyrex_broker.domain.assigned import AssignedBlock, Headers, SharedTerms, column
from hyrex_broker.domain.blocks import NO_TRACE
from hyrex_broker.domain.model import CARRIED, CarriedOptions, LaneId, TaskId

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_NONE: Final[Headers] = {}
_ARRIVAL: Final = itemgetter(3, 4, 5)
Read = tuple[int, datetime]
_CARRIED_FROM: Final = 22
_EXPIRES_IN_MS: Final = 21
"""Carried options are the last columns of a row."""
_SHARED: Final = (6, 7, 3, 4, 12, 13, 11, *range(_CARRIED_FROM, _CARRIED_FROM + len(CARRIED)))
"""Columns of a row that all runs of a block have in common: session, sequence, lane, rank, retries, timeout,
alone, carried options."""


def microseconds(moment: datetime) -> int:
    """Unix time."""
    return (moment - _EPOCH) // _MICROSECOND


def arrivals_of(rows: Sequence[Any]) -> Counter[tuple[LaneId, int, datetime]]:
    """How many runs came from each lane, rank and arrival: those that were stored together have one."""
    return Counter(map(_ARRIVAL, rows))


def reads_of(arrivals: Mapping[tuple[LaneId, int, datetime], int]) -> dict[tuple[LaneId, int], Read]:
    """How many runs each (lane, rank) gave, and the latest arrival of them."""
    reads: dict[tuple[LaneId, int], Read] = {}
    for (lane, rank, arrival), given in arrivals.items():
        count, last = reads.get((lane, rank), (0, arrival))
        reads[lane, rank] = count + given, max(last, arrival)
    return reads


def blocks_of(rows: Sequence[Any], names: Mapping[LaneId, tuple[str, str]]) -> list[AssignedBlock]:
    """Blocks of rows, those with the highest priority first."""
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for row in rows:
        groups.setdefault(tuple([row[place] for place in _SHARED]), []).append(row)
    blocks = [_block(key, members, names) for key, members in groups.items()]
    return sorted(blocks, key=lambda block: block.terms.rank)


def _block(
    key: tuple[Any, ...], rows: Sequence[Any], names: Mapping[LaneId, tuple[str, str]]
) -> AssignedBlock:
    session, sequence, lane, rank, max_retries, timeout_ms, alone, *carried = key
    queue, name = names[lane]
    columns = [*zip(*rows, strict=True)]
    payloads, sizes = columns[19], columns[18]
    missing = [0 if payload is not None else size for payload, size in zip(payloads, sizes, strict=True)]
    return AssignedBlock(
        session,
        sequence,
        lane,
        SharedTerms(name, queue, rank, max_retries, timeout_ms, alone, CarriedOptions(*carried)),
        ids.hex_ids(columns[2]),
        columns[8],
        [payload or b"" for payload in payloads],
        submitted_us=_moments(columns[16]),
        run_numbers=column(columns[9], 0),
        attempt_numbers=column(columns[10], 0),
        parent_ids=_relatives(columns[14]),
        root_ids=_relatives(columns[15]),
        headers=_headers(columns[17]),
        trace_contexts=column([trace or NO_TRACE for trace in columns[20]], NO_TRACE),
        sizes=missing if any(missing) else (),
        expires_in_ms=_times_left(columns[_EXPIRES_IN_MS]),
    )


def _times_left(left: Sequence[int | None]) -> Sequence[int]:
    return () if left.count(None) == len(left) else [each or 0 for each in left]


def _moments(moments: Sequence[datetime]) -> Sequence[int]:
    """Those that were stored together have one time."""
    known = {moment: microseconds(moment) for moment in set(moments)}
    return column([known[moment] for moment in moments])


def _relatives(texts: Sequence[TaskId | None]) -> Sequence[ids.HexId]:
    return column([ids.ABSENT if text is None else ids.hex_id(text) for text in texts], ids.ABSENT)


def _headers(texts: Sequence[str | None]) -> Sequence[Headers]:
    return column([json.loads(text) if text else _NONE for text in texts], _NONE)
