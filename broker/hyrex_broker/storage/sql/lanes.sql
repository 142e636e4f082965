-- name: lanes
-- Lanes newer than the last one known, and those whose limited flag matters. $1 highest id known.
select id, queue, name, limited from lane where id > $1 order by id

-- name: lock_lanes
-- Interning lanes and setting limits exclude each other, so that `lane.limited` is never stale.
select pg_advisory_xact_lock(hashtext('hyrex.lanes'), hashtext(current_schema()))

-- name: intern
-- Adds lanes; call under `lock_lanes`. $1 queue, $2 name.
insert into lane (namespace, queue, name, limited)
select 0, q.queue, q.name,
       exists (select from concurrency_limit c where c.namespace = 0
               and ((c.scope = 'queue' and c.name = q.queue) or (c.scope = 'task' and c.name = q.name)))
from unnest($1::text[], $2::text[]) as q (queue, name)
where (select true from lane l where l.namespace = 0 and l.queue = q.queue and l.name = q.name limit 1) is null
order by q.queue, q.name
on conflict do nothing

-- name: add_queues
-- Adds queues. $1 names.
insert into queue (namespace, name) select distinct 0, n from unnest($1::text[]) as n order by 2
on conflict do nothing

-- name: find_lanes
-- Ids of lanes. $1 queue, $2 name. The lateral with LIMIT keeps each an index probe: as a join it may be read
-- lane by lane for each pair, which takes seconds for a thousand of each.
select l.id, l.queue, l.name, l.limited
from unnest($1::text[], $2::text[]) as q (queue, name)
cross join lateral (
  select id, queue, name, limited from lane
  where namespace = 0 and lane.queue = q.queue and lane.name = q.name limit 1
) l

-- name: limits
-- All limits.
select scope, name, maximum, source from concurrency_limit where namespace = 0

-- name: paused
-- Names of paused queues.
select name from queue where namespace = 0 and paused

-- name: declare_limits
-- Sets limits that code declares, unless an operator has set them; 0 removes. Call under `lock_lanes`.
-- $1 scope, $2 name, $3 maximum.
with declared as (
  select * from unnest($1::text[], $2::text[], $3::integer[]) as d (scope, name, maximum)
), removed as (
  delete from concurrency_limit c using declared d
  where c.namespace = 0 and c.scope = d.scope and c.name = d.name and d.maximum = 0 and c.source = 'code'
)
insert into concurrency_limit (namespace, scope, name, maximum, source)
select 0, scope, name, maximum, 'code' from declared where maximum > 0 order by scope, name
on conflict (namespace, scope, name) do update set maximum = excluded.maximum
where concurrency_limit.source = 'code' and concurrency_limit.maximum <> excluded.maximum

-- name: flag_lanes
-- Makes `limited` agree with the limits. Call under `lock_lanes`, after the limits were written.
update lane l set limited = w.limited
from (
  select id, exists (select from concurrency_limit c where c.namespace = 0
                     and ((c.scope = 'queue' and c.name = queue) or (c.scope = 'task' and c.name = lane.name)))
         as limited
  from lane
) w
where w.id = l.id and w.limited <> l.limited

-- name: declare_tasks
-- Keeps the definitions for people. $1 name, $2 queue, $3 max_retries, $4 timeout_ms, $5 priority.
insert into task_definition (namespace, name, queue, max_retries, timeout_ms, priority)
select 0, * from unnest($1::text[], $2::text[], $3::integer[], $4::bigint[], $5::smallint[])
order by 2
on conflict (namespace, name) do update
set queue = excluded.queue, max_retries = excluded.max_retries, timeout_ms = excluded.timeout_ms,
    priority = excluded.priority, updated_at = now()
where (task_definition.queue, task_definition.max_retries, task_definition.timeout_ms, task_definition.priority)
  is distinct from (excluded.queue, excluded.max_retries, excluded.timeout_ms, excluded.priority)
