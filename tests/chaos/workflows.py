"""Workflows of a storm: their random shapes, and what must not become of them."""

import random
from typing import Any, Final

from tests.support.postgres import connect

MOST_NODES: Final = 8
_RAN_EARLY: Final = """
select n.id, u.id as upstream from task n
cross join lateral unnest(n.upstreams) as u (id)
join task_run r on r.task_id = n.id and r.started_at is not null
where n.downstreams is not null
  and not exists (select from task_run e where e.task_id = u.id and e.final and e.finished_at <= r.started_at)
"""
"""By the database's clock a run does not start before its assign, and an end is not later than its commit."""
_UNFINISHED: Final = (
    "select id from task t where t.workflow is not null and exists (select from live where task_id = t.id)"
)
_ENDS: Final = """
select r.id, e.outcome, e.finished_at >= max(n.finished_at) as is_last, bool_and(n.outcome = 2) as whole
from task r
join task_run e on e.task_id = r.id and e.final
cross join lateral unnest(r.upstreams) as u (id)
join task_run n on n.task_id = u.id and n.final
where r.kind = 1
group by r.id, e.outcome, e.finished_at
"""
_SKIPPED: Final = """
select n.id, coalesce(e.cause = 4, false) as skipped,
       exists (select from task_run r where r.task_id = n.id and r.started_at is not null) as ran,
       exists (
         select from jsonb_array_elements(n.workflow->'edges') as edge (said)
         join task_run u on u.task_id = (edge.said->>1)::uuid and u.final
         where u.outcome <> 2 and edge.said->>3 = '0') as missing
from task n join task_run e on e.task_id = n.id and e.final
where n.downstreams is not null
"""


def shape(seed: int) -> list[list[tuple[int, bool]]]:
    """For which others each node waits, by their places, and whether it runs after their bad end too."""
    chance = random.Random(seed)
    return [
        [
            (other, chance.random() < 0.3)
            for other in chance.sample(range(place), min(place, chance.randint(0, 3)))
        ]
        for place in range(chance.randint(2, MOST_NODES))
    ]


async def wrong_workflows(database_url: str) -> list[str]:
    """A line for each thing that is wrong, once nothing is left to do."""
    connection = await connect(database_url)
    try:
        return [
            *[f"node {row[0]} ran before {row[1]} had ended" for row in await connection.fetch(_RAN_EARLY)],
            *[f"workflow or node {row[0]} is left" for row in await connection.fetch(_UNFINISHED)],
            *[line for row in await connection.fetch(_ENDS) for line in _of_root(row)],
            *[line for row in await connection.fetch(_SKIPPED) for line in _of_node(row)],
        ]
    finally:
        await connection.close()


def _of_root(row: Any) -> list[str]:
    found = [] if row["is_last"] else [f"workflow {row['id']} ended before one of its nodes"]
    if (row["outcome"] == 2) is not row["whole"]:
        found.append(f"workflow {row['id']} ended as {row['outcome']}, all nodes completed: {row['whole']}")
    return found


def _of_node(row: Any) -> list[str]:
    if row["missing"] and row["ran"]:
        return [f"node {row['id']} ran although one before it did not complete"]
    if row["skipped"] and not row["missing"]:
        return [f"node {row['id']} was skipped although all before it completed"]
    return []
