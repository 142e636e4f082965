-- name: how_many_queues
-- How many queues there are, up to $1.
select count(*) from (select from queue limit $1::integer) few

-- name: oldest
-- Since when the oldest ready task of some queues waits. $1 queues.
select l.queue, min(r.arrival) as arrival
from unnest($1::text[]) as q (name)
join lane l on l.namespace = 0 and l.queue = q.name
cross join generate_series(0, 9) as k (rank)
cross join lateral (
  select arrival from ready where ready.lane = l.id and ready.rank = k.rank order by arrival limit 1
) r
group by l.queue

-- name: strange_tasks
-- Names of ready tasks that no live session has, with their queues, each once. $1 queues, $2 how many.
with known as materialized (
  select distinct unnest(task_names) as name from worker_session
  where ended_at is null and expires_at > now() and not draining
), strange as materialized (
  select id, queue, name from lane
  where namespace = 0 and queue = any ($1::text[]) and name not in (select known.name from known)
)
select queue, name, min(arrival) as arrival
from (
  -- A queue and a name have two lanes for each of 65 buckets at most.
  select s.queue, s.name, w.arrival
  from strange s cross join lateral (
    select arrival from ready where ready.lane = s.id order by rank, arrival limit 1
  ) w
  limit 130 * $2::integer
) lanes
group by queue, name
limit $2::integer

-- name: full_limits
-- Limits that are reached while a task has waited behind them for 5 minutes. $1 queues, or null for all
-- limits; $2 how many.
select c.scope, c.name, c.maximum, w.arrival
from concurrency_limit c
cross join lateral (
  select array(select id from lane
               where namespace = 0 and ((c.scope = 'queue' and queue = c.name) or (c.scope = 'task' and name = c.name)))
    as ids
) l
cross join lateral (
  select min(r.arrival) as arrival
  from unnest(l.ids) as lane (id)
  cross join generate_series(0, 9) as k (rank)
  cross join lateral (
    select arrival from ready where ready.lane = lane.id and ready.rank = k.rank order by arrival limit 1
  ) r
) w
where c.namespace = 0 and c.maximum is not null and ($1::text[] is null or (c.scope = 'queue' and c.name = any ($1)))
  and w.arrival < now() - interval '5 minutes'
  and (select count(*) from lease where lease.lane = any (l.ids)) >= c.maximum
order by w.arrival limit $2::integer

-- name: running
-- What some sessions hold, each the longest first. $1 sessions, $2 how many of each.
select s.id as session_id, r.task_id, r.assigned_at, r.run_number, n.queue, n.name
from unnest($1::bigint[]) as s (id)
cross join lateral (
  select task_id, lane, assigned_at, run_number from lease where lease.session_id = s.id
  order by assigned_at, task_id limit $2::integer
) r
cross join lateral (select queue, name from lane where lane.id = r.lane limit 1) n
order by s.id, r.assigned_at, r.task_id

-- name: refused_rows
-- The newest 1,000 refused rows of the outbox by their queues: how many, since when, and why the newest was. $1 queues, or
-- null for all; $2 how many of them.
select queue, count(*) as count, min(held_at) as since, (array_agg(reason order by id desc))[1] as reason
from (
  select id, coalesce(queue, 'default') as queue, held_at, coalesce(reason, '') as reason
  from outbox where held = 'refused' order by id desc limit 1000
) o
where $1::text[] is null or queue = any ($1::text[])
group by queue order by 3 limit $2::integer
