"""Workflows of a storm: their random shapes, and what must not become of them.

What is decided is looked at where it is decided: a trigger on `blocked` sees roots end and nodes go on or be
skipped, in the very transaction. Afterwards a retry may have put back what it went by.
"""

import random
from typing import Any, Final

from tests.support.postgres import connect

MOST_NODES: Final = 8
_WATCH: Final = """
create schema if not exists storm;
create table storm.torn (id bigint generated always as identity, what text not null);
create function storm.look_at_decisions() returns trigger language plpgsql set search_path = hyrex as $$
begin
  with decided as materialized (
    select g.task_id, g.kind, t.upstreams, t.workflow,
           exists (select from live where live.task_id = g.task_id) as goes_on,
           exists (select from task_run r where r.task_id = g.task_id and r.run_number = g.run_number
                   and r.cause = 4) as skipped,
           (select count(*) from (
              select id, '0' as anyway from unnest(t.upstreams) as u (id) where not t.workflow ? 'edges'
              union all
              select (said->>1)::uuid, said->>3 from jsonb_array_elements(t.workflow->'edges') as edge (said)
            ) e
            cross join lateral (
              select outcome from task_run r where r.task_id = e.id order by run_number desc limit 1
            ) last
            where e.anyway = '0' and last.outcome <> 2) as missing
    from gone g join task t on t.id = g.task_id
    where g.kind in (1, 3)
  )
  insert into storm.torn (what)
  select format('workflow %s ended while its node %s is in %s', d.task_id, l.task_id, l.place)
  from decided d cross join lateral unnest(d.upstreams) as u (id) join live l on l.task_id = u.id
  -- A cancel replaces its row.
  where d.kind = 1 and not d.goes_on
  union all
  select format('node %s was decided while %s before it is in %s', d.task_id, l.task_id, l.place)
  from decided d cross join lateral unnest(d.upstreams) as u (id) join live l on l.task_id = u.id
  where d.kind = 3 and (d.goes_on or d.skipped)
  union all
  select format('node %s goes on although %s before it did not complete', d.task_id, d.missing)
  from decided d where d.kind = 3 and d.goes_on and d.missing > 0
  union all
  select format('node %s was skipped although all before it completed', d.task_id)
  from decided d where d.kind = 3 and d.skipped and d.missing = 0;
  return null;
end
$$;
create trigger looked_at_by_storm after delete on hyrex.blocked referencing old table as gone
  for each statement execute function storm.look_at_decisions();
"""
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
cross join lateral (
  select * from task_run where task_run.task_id = r.id and final order by run_number desc limit 1
) e
cross join lateral unnest(r.upstreams) as u (id)
cross join lateral (
  select * from task_run where task_run.task_id = u.id and final order by run_number desc limit 1
) n
where r.kind = 1
group by r.id, e.outcome, e.finished_at
"""
"""The last ends: a retry takes back the others, and with a node's that of its root."""


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


async def watch_decisions(database_url: str) -> None:
    """Have the database look at what is decided from now on."""
    connection = await connect(database_url)
    try:
        await connection.execute(_WATCH)
    finally:
        await connection.close()


async def wrong_workflows(database_url: str) -> list[str]:
    """A line for each thing that is wrong, once nothing is left to do."""
    connection = await connect(database_url)
    try:
        return [
            *[row[0] for row in await connection.fetch("select what from storm.torn order by id")],
            *[f"node {row[0]} ran before {row[1]} had ended" for row in await connection.fetch(_RAN_EARLY)],
            *[f"workflow or node {row[0]} is left" for row in await connection.fetch(_UNFINISHED)],
            *[line for row in await connection.fetch(_ENDS) for line in _of_root(row)],
        ]
    finally:
        await connection.close()


def _of_root(row: Any) -> list[str]:
    found = [] if row["is_last"] else [f"workflow {row['id']} ended before one of its nodes"]
    if (row["outcome"] == 2) is not row["whole"]:
        found.append(f"workflow {row['id']} ended as {row['outcome']}, all nodes completed: {row['whole']}")
    return found
