-- name: lanes
-- What lanes stand for, and for how long tasks may be stored in them. $1 ids.
select id, queue, name, followed, bucket, extract(epoch from usable_until - now())::float8 as usable_s
from lane where id = any ($1::integer[])

-- name: gone
-- Those of some lanes that are stored no longer. $1 ids.
select l from unnest($1::integer[]) as l where (select true from lane where id = l limit 1) is null

-- name: lock_lanes
-- Keeps lanes from being added while limits are set, and the other way round: so `lane.limited` is never stale.
select pg_advisory_xact_lock(hashtext('hyrex.lanes'), hashtext(current_schema()))

-- name: intern
-- Adds lanes; call under `lock_lanes`. $1 queue, $2 name, $3 whether followed, $4 bucket, $5 how many at most.
insert into lane (namespace, queue, name, followed, bucket, limited)
select 0, q.queue, q.name, q.followed, q.bucket,
       exists (select from concurrency_limit c where c.namespace = 0
               and ((c.scope = 'queue' and c.name = q.queue) or (c.scope = 'task' and c.name = q.name)))
from unnest($1::text[], $2::text[], $3::boolean[], $4::smallint[]) as q (queue, name, followed, bucket)
where (select true from lane l where l.namespace = 0 and l.queue = q.queue and l.name = q.name
         and l.followed = q.followed and l.bucket = q.bucket) is null
order by q.queue, q.name, q.followed, q.bucket
limit $5::integer
on conflict do nothing
returning id, queue

-- name: renew
-- Lets tasks be stored in lanes for longer. $1 ids. Call under `lock_lanes`: else one of them may just be removed.
update lane set usable_until = now() + interval '2 days' where id = any ($1::integer[])

-- name: add_queues
-- Adds queues, or notes that they are in use. $1 names.
insert into queue as q (namespace, name) select distinct 0, n from unnest($1::text[]) as n order by 2
on conflict (namespace, name) do update set used_at = now() where q.used_at < now() - interval '1 day'

-- name: unknown_queues
-- Those of some names that no queue has yet. $1 names.
select n from unnest($1::text[]) as n
where (select true from queue where namespace = 0 and name = n) is null

-- name: find_lanes
-- Lanes. $1 queue, $2 name, $3 whether followed, $4 bucket. With the lateral and LIMIT each is one index probe. As a
-- join, all lanes may be read for each of them, which takes seconds for a thousand of each.
select l.id, l.queue, l.name, l.followed, l.bucket, l.usable_s
from unnest($1::text[], $2::text[], $3::boolean[], $4::smallint[]) as q (queue, name, followed, bucket)
cross join lateral (
  select id, queue, name, followed, bucket, extract(epoch from usable_until - now())::float8 as usable_s from lane
  where namespace = 0 and lane.queue = q.queue and lane.name = q.name
    and lane.followed = q.followed and lane.bucket = q.bucket limit 1
) l

-- name: tasks_elsewhere
-- Those of some task names that a queue has which fits none of some patterns. $1 names, $2 LIKE patterns.
select n from unnest($1::text[]) as n
where exists (select from lane where namespace = 0 and name = n and not queue like any ($2::text[]))

-- name: limits
-- All limits.
select scope, name, maximum, source, rate_count, rate_period_ms, rate_burst from concurrency_limit where namespace = 0

-- name: steered
-- Queues that are paused, or have a maximum of what may wait.
select name, paused, max_waiting from queue where namespace = 0 and (paused or max_waiting is not null)

-- name: declare_limits
-- Sets limits that code declares, unless an operator has set them; one without maximum and rate (0) is removed.
-- Call under `lock_lanes`. $1 scope, $2 name, $3 maximum, $4 count, $5 period and $6 burst of the rate.
with declared as (
  select d.scope, d.name, nullif(d.maximum, 0) as maximum,
         nullif(d.count, 0) as count, nullif(d.period_ms, 0) as period_ms, nullif(d.burst, 0) as burst
  from unnest($1::text[], $2::text[], $3::integer[], $4::integer[], $5::bigint[], $6::integer[])
    as d (scope, name, maximum, count, period_ms, burst)
), removed as (
  delete from concurrency_limit c using declared d
  where c.namespace = 0 and c.scope = d.scope and c.name = d.name and c.source = 'code'
    and d.maximum is null and d.count is null
)
insert into concurrency_limit as c (namespace, scope, name, maximum, source, rate_count, rate_period_ms, rate_burst)
select 0, scope, name, maximum, 'code', count, period_ms, burst
from declared where maximum is not null or count is not null order by scope, name
on conflict (namespace, scope, name) do update
set maximum = excluded.maximum, rate_count = excluded.rate_count, rate_period_ms = excluded.rate_period_ms,
    rate_burst = excluded.rate_burst, changed_at = clock_timestamp()
where c.source = 'code' and (c.maximum, c.rate_count, c.rate_period_ms, c.rate_burst)
  is distinct from (excluded.maximum, excluded.rate_count, excluded.rate_period_ms, excluded.rate_burst)

-- name: unsettled_limits
-- The limits declared by code that differ from what the living sessions declare, with what those declare (0: no
-- limit). The newest session that names a limit decides. A limit that no session names is removed if one of
-- them has the task, or declares the queue without a limit.
with said as materialized (
  select distinct on (l.scope, l.name) l.scope, l.name, nullif(l.maximum, 0) as maximum,
         nullif(l.count, 0) as count, nullif(l.period_ms, 0) as period_ms, nullif(l.burst, 0) as burst
  from worker_session s
  cross join lateral unnest(s.limit_scopes, s.limit_names, s.limit_maxima, s.limit_rate_counts,
                            s.limit_rate_periods_ms, s.limit_rate_bursts)
    as l (scope, name, maximum, count, period_ms, burst)
  where s.ended_at is null and s.expires_at > now() and (l.maximum > 0 or l.count > 0)
  -- A worker whose session ended has begun a new one, and is as old as it was.
  order by l.scope, l.name, coalesce(s.origin, s.id) desc
)
select c.scope, c.name, coalesce(said.maximum, 0) as maximum, said.count, said.period_ms, said.burst
from concurrency_limit c left join said on said.scope = c.scope and said.name = c.name
where c.namespace = 0 and c.source = 'code' and case
  when said.name is not null then (said.maximum, said.count, said.period_ms, said.burst)
    is distinct from (c.maximum, c.rate_count, c.rate_period_ms, c.rate_burst)
  when c.scope = 'task' then exists (
    select from worker_session s
    where s.ended_at is null and s.expires_at > now() and c.name = any (s.task_names))
  else exists (
    select from worker_session s
    cross join lateral unnest(s.limit_scopes, s.limit_names) as l (scope, name)
    where s.ended_at is null and s.expires_at > now() and l.scope = 'queue' and l.name = c.name)
end

-- name: flag_lanes
-- Makes `limited` agree with some limits that were written. Call under `lock_lanes`, after that.
-- $1 names of the queues, $2 names of the tasks whose limits were.
update lane l set limited = w.limited
from (
  select id, exists (select from concurrency_limit c where c.namespace = 0
                     and ((c.scope = 'queue' and c.name = queue) or (c.scope = 'task' and c.name = shared.name)))
         as limited
  from (
    select of_queue.* from unnest($1::text[]) as q (name)
    cross join lateral (select id, queue, name, limited from lane where namespace = 0 and queue = q.name) of_queue
    union
    select of_task.* from unnest($2::text[]) as t (name)
    cross join lateral (select id, queue, name, limited from lane where namespace = 0 and name = t.name) of_task
  ) shared
) w
where w.id = l.id and w.limited <> l.limited

-- name: declare_tasks
-- Keeps the definitions for people. $1 name, $2 queue, $3 max_retries, $4 timeout_ms, $5 priority.
insert into task_definition (namespace, name, queue, max_retries, timeout_ms, priority)
select 0, * from unnest($1::text[], $2::text[], $3::integer[], $4::bigint[], $5::smallint[])
order by 2
on conflict (namespace, name) do update
set queue = excluded.queue, max_retries = excluded.max_retries, timeout_ms = excluded.timeout_ms,
    priority = excluded.priority, declared_at = now(),
    updated_at = case when (task_definition.queue, task_definition.max_retries, task_definition.timeout_ms,
                            task_definition.priority)
                        is distinct from (excluded.queue, excluded.max_retries, excluded.timeout_ms, excluded.priority)
                   then now() else task_definition.updated_at end
where task_definition.declared_at < now() - interval '1 day'
  or (task_definition.queue, task_definition.max_retries, task_definition.timeout_ms, task_definition.priority)
  is distinct from (excluded.queue, excluded.max_retries, excluded.timeout_ms, excluded.priority)

-- name: forget_rate_uses
-- Removes the uses of rates that are gone. One that comes again begins with a full bucket.
delete from rate_use r
where (select true from concurrency_limit c
       where c.namespace = r.namespace and c.scope = r.scope and c.name = r.name and c.rate_count is not null) is null
