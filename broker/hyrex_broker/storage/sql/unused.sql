-- Removes what nobody has used for longer than tasks are kept (storage/unused.py).

-- name: lanes
-- Lanes in which nothing may be stored since long. $1 since when, $2 ids above this one, $3 how many.
select id from lane
where usable_until < $1 and id > $2
order by id limit $3::integer

-- name: stored
-- The lanes of a portion of old tasks, each once, and the portion's last id (null at the end). $1 ids above this one,
-- $2 ids below this one, $3 how many.
with page as materialized (
  select id, lane from task where id > $1 and id < $2 order by id limit $3::integer
)
select (select id from page order by id desc limit 1) as last, array(select distinct lane from page) as lanes

-- name: keep
-- Counts lanes as used now, since old tasks of them are kept. $1 ids. Call under `lock_lanes`.
update lane set usable_until = greatest(usable_until, now()) where id = any ($1::integer[])

-- name: remove_lanes
-- Removes lanes, but those that were renewed meanwhile or have something that lives; returns how many. $1 ids, $2 since when
-- nothing may be stored in them. Call under `lock_lanes`: who interns one of them waits, and makes another one.
with gone as (
  delete from lane l
  where id = any ($1::integer[]) and usable_until < $2
    and (select true from ready where ready.lane = l.id limit 1) is null
    and (select true from delayed where delayed.lane = l.id limit 1) is null
    and (select true from lease where lease.lane = l.id limit 1) is null
    and (select true from blocked where blocked.lane = l.id limit 1) is null
  returning id
), unmarked as (
  delete from low_water_mark where lane = any (array(select id from gone))
)
select count(*) from gone

-- name: definitions
-- Names of task definitions that no worker has declared since a time. $1 since when, $2 names above this one, $3 how many.
select name from task_definition where declared_at < $1 and name > $2::text order by name limit $3::integer

-- name: remove_definitions
-- Removes those of some task definitions that no worker has declared since a time, of which no session is known, and that no
-- lane and no schedule names. $1 since when, $2 names. Call under `lock_lanes`, as what follows.
delete from task_definition d
where declared_at < $1 and name = any ($2::text[])
  and (select true from lane l where l.namespace = d.namespace and l.name = d.name limit 1) is null
  and not exists (select from schedule s where s.namespace = d.namespace and s.task = d.name)
  and d.name not in (select unnest(task_names) from worker_session)

-- name: limits
-- Names of limits that code has declared, and not changed since a time. $1, $2, $3 as in `definitions`.
select distinct name from concurrency_limit where source = 'code' and changed_at < $1 and name > $2::text
order by name limit $3::integer

-- name: remove_limits
-- Removes those of some limits of code that are for what nobody uses any more. Those of operators stay. $1 since when,
-- $2 names.
delete from concurrency_limit c
where source = 'code' and changed_at < $1 and name = any ($2::text[])
  and case when scope = 'queue'
        then (select true from lane l where l.namespace = c.namespace and l.queue = c.name limit 1)
        else (select true from lane l where l.namespace = c.namespace and l.name = c.name limit 1) end is null
  and c.name not in (select unnest(limit_names) from worker_session)
  and c.name not in (select unnest(task_names) from worker_session)

-- name: queues
-- Names of queues that nobody has declared or set since a time. $1, $2, $3 as in `definitions`.
select name from queue where used_at < $1 and name > $2::text order by name limit $3::integer

-- name: remove_queues
-- Removes those of some queues that have no lanes and that nobody has used since a time. One that an operator has paused,
-- limited or given a maximum or terms stays, and so does one that a definition, a schedule or a worker names.
-- $1 since when, $2 names.
delete from queue q
where used_at < $1 and name = any ($2::text[]) and not paused
  and max_waiting is null and retention_days is null and dead_letter_days is null
  and (select true from lane l where l.namespace = q.namespace and l.queue = q.name limit 1) is null
  and not exists (select from concurrency_limit c
                  where c.namespace = q.namespace and c.scope = 'queue' and c.name = q.name)
  and not exists (select from task_definition d where d.namespace = q.namespace and d.queue = q.name)
  and not exists (select from schedule s where s.namespace = q.namespace and s.queue = q.name)
  and q.name not in (select unnest(limit_names) from worker_session)
