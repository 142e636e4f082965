-- Looks for what must not be (storage/verify.py). Only reads. Each statement has one snapshot, in which a task has its
-- end or its live row whatever is in flight, and is bounded, so that no snapshot is held for long.

-- name: walk
-- What is wrong with tasks in a range of ids: a row for each kind with how many, and some of the ids; the last row has
-- the last id looked at and the number of tasks. $1 ids above this one, $2 up to this one, $3 how many tasks,
-- $4 keys are looked at from this id on: retention forgets them apart from their tasks, $5 how many ids of each kind.
with page as materialized (
  select id, lane, idempotency_key, case when downstreams is not null then parent_id end as root
  from task where id > $1::uuid and id <= $2::uuid order by id limit $3::integer
), upto as materialized (
  select case when (select count(*) from page) < $3 then $2 else (select id from page order by id desc limit 1) end as id
), looked as materialized (
  select p.id, p.idempotency_key, p.root, q.run_number as ready, d.run_number as delayed, h.run_number as leased,
         b.run_number as blocked,
         coalesce(r.ends, 0) as ends, r.highest,
         (q.run_number is not null)::integer + (d.run_number is not null)::integer
           + (h.run_number is not null)::integer + (b.run_number is not null)::integer as places,
         coalesce(h.run_number, q.run_number, d.run_number, b.run_number) as live,
         (select true from lane where lane.id = p.lane limit 1) is not null as has_lane
  from page p
  left join lateral (select run_number from ready where task_id = p.id limit 1) q on true
  left join lateral (select run_number from delayed where task_id = p.id limit 1) d on true
  left join lateral (select run_number from lease where task_id = p.id limit 1) h on true
  left join lateral (select run_number from blocked where task_id = p.id limit 1) b on true
  left join lateral (
    select max(t.run_number) as highest,
           count(*) filter (
             where t.final and (select true from reopen o where o.task_id = p.id
                                and o.after_run_number = t.run_number limit 1) is null) as ends
    from task_run t where t.task_id = p.id and t.task_id > $1 and t.task_id <= $2
  ) r on true
), found as (
  select 'two_ends' as kind, id from looked where ends > 1
  union all select 'live_after_end', id from looked where ends = 1 and places > 0
  union all select 'two_places', id from looked where places > 1
  union all select 'stranded', id from looked where places = 0 and ends = 0
  union all select 'run_taken', id from looked where ends = 0 and live <= highest
  union all select 'no_lane', id from looked where not has_lane
  union all
  select 'node_without_root', id from looked
  where root is not null and places > 0 and not waits_for_any(array[root])
  union all
  select 'key_lost', id from looked
  where idempotency_key is not null and id >= $4::uuid
    and (select true from idempotency where task_id = looked.id limit 1) is null
  union all
  select 'live_without_task', live.task_id
  from (
    select task_id from ready where task_id > $1 and task_id <= (select id from upto)
    union all select task_id from delayed where task_id > $1 and task_id <= (select id from upto)
    union all select task_id from lease where task_id > $1 and task_id <= (select id from upto)
    union all select task_id from blocked where task_id > $1 and task_id <= (select id from upto)
  ) live
  where (select true from task where id = live.task_id and id > $1 and id <= $2 limit 1) is null
  union all
  select 'orphan_lease', task_id from lease
  where task_id > $1 and task_id <= (select id from upto)
    and (select true from worker_session s where s.id = lease.session_id and s.ended_at is null limit 1) is null
  union all
  select 'run_without_task', task_id from task_run
  where task_id > $1 and task_id <= (select id from upto)
    and (select true from task where id = task_run.task_id and id > $1 and id <= $2 limit 1) is null
  union all
  select 'reopened_nothing', task_id from reopen
  where task_id > $1 and task_id <= (select id from upto)
    and (select true from task_run t where t.task_id = reopen.task_id and t.task_id > $1 and t.task_id <= $2
         and t.run_number = reopen.after_run_number and t.final limit 1) is null
    -- Of a task that is gone it may be remembered until its day is looked at again (storage/compaction.py).
    and (select true from task where id = reopen.task_id and id > $1 and id <= $2 limit 1) is not null
  union all
  select 'dismissed_nothing', task_id from dismissal
  where task_id > $1 and task_id <= (select id from upto)
    and (select true from task_run t where t.task_id = dismissal.task_id and t.task_id > $1 and t.task_id <= $2
         and t.run_number = dismissal.run_number and t.final and t.outcome in (3, 4, 6) limit 1) is null
    and (select true from task where id = dismissal.task_id and id > $1 and id <= $2 limit 1) is not null
  union all
  select 'key_of_nothing', task_id from idempotency
  where task_id > $1 and task_id <= (select id from upto)
    and task_id >= $4
    and (select true from task where id = idempotency.task_id and id > $1 and id <= $2 limit 1) is null
)
select kind, count(*) as count, (array_agg(id::text order by id))[1:$5::integer] as ids from found group by kind
union all
select null, (select count(*) from page), array[(select id::text from upto)]

-- name: days
-- The tables of days: name, parent (null: none), whether a detach was interrupted half-way, and whether the name is
-- that of a day of this parent.
select c.relname as name, p.relname as parent, coalesce(i.inhdetachpending, false) as detaching,
       c.relname ~ ('^' || coalesce(p.relname, '(task|task_run|stat|stat_5min)') || '_[0-9]{8}$') as known
from pg_class c
left join pg_inherits i on i.inhrelid = c.oid
left join pg_class p on p.oid = i.inhparent
where c.relkind = 'r' and pg_table_is_visible(c.oid)
  and (p.relname in ('task', 'task_run', 'stat', 'stat_5min') or c.relname ~ '^(task|task_run|stat|stat_5min)_[0-9]{8}$')
order by c.relname

-- name: today
-- The database's day (UTC), and whether a broker maintains the tables of days now.
select (now() at time zone 'UTC')::date as today,
       exists (select from pg_locks
               where locktype = 'advisory' and classid = hashtext('hyrex.schema')::oid and pid <> pg_backend_pid()) as maintained

-- What follows is due within seconds where a broker works, so each waits for $1, and for a broker that has lived so
-- long and lives: after an outage nobody has done it yet. $2 how many ids.

-- name: unswept
-- Sessions whose time was over long ago, and which nobody has ended.
select 'unswept' as kind, count(*) as count, (array_agg(id::text order by id))[1:$2::integer] as ids
from worker_session
where ended_at is null and expires_at < now() - $1::interval
  and exists (select from broker where seen_at > now() - interval '10 seconds' and started_at < now() - $1)
having count(*) > 0

-- name: overdue
-- Leases that should have been ended by their deadline long ago.
select 'overdue' as kind, count(*) as count, (array_agg(task_id::text order by task_id))[1:$2::integer] as ids
from lease
where deadline < now() - $1::interval
  and exists (select from broker where seen_at > now() - interval '10 seconds' and started_at < now() - $1)
having count(*) > 0

-- name: not_promoted
-- Delayed tasks whose time came long ago, up to ten thousand.
select 'not_promoted' as kind, count(*) as count, (array_agg(task_id::text order by task_id))[1:$2::integer] as ids
from (select task_id from delayed where run_at < now() - $1::interval order by run_at limit 10000) late
where exists (select from broker where seen_at > now() - interval '10 seconds' and started_at < now() - $1)
having count(*) > 0

-- name: passed_over
-- Ready tasks that no assign finds: they are below the stored mark of their lane and rank, and a task that was
-- submitted long after has a lease of the same lane and rank. Only the first of each lane and rank.
select 'passed_over' as kind, count(*) as count, (array_agg(r.task_id::text order by r.task_id))[1:$2::integer] as ids
from low_water_mark m
cross join lateral (
  select task_id, arrival from ready
  where ready.lane = m.lane and ready.rank = m.rank and ready.arrival < m.mark order by arrival, task_id limit 1
) r
where m.lane > 0 and r.arrival < now() - $1::interval
  and exists (select from lease l join task t on t.id = l.task_id
              where l.lane = m.lane and l.rank = m.rank and l.run_number = 0
                and t.submitted_at > r.arrival + $1 and l.assigned_at > r.arrival + $1)
  and exists (select from broker where seen_at > now() - interval '10 seconds' and started_at < now() - $1)
having count(*) > 0

-- name: bulk_left
-- Bulk operations that nobody works on.
select 'bulk_left' as kind, count(*) as count, (array_agg(id::text order by id))[1:$2::integer] as ids
from bulk_operation
where state = 'running' and seen_at < now() - $1::interval
  and exists (select from broker where seen_at > now() - interval '10 seconds' and started_at < now() - $1)
having count(*) > 0

-- name: slot_overdue
-- Schedules whose next slot passed long ago, with their jitter. $1, $2 as above.
select 'slot_overdue' as kind, count(*) as count, (array_agg(name order by next_at, name))[1:$2::integer] as ids
from (select name, next_at from schedule
      where not paused and next_at + make_interval(secs => jitter_s) < now() - $1::interval limit 10000) s
where exists (select from broker where seen_at > now() - interval '10 seconds' and started_at < now() - $1)
having count(*) > 0

-- name: seat_of_ended
-- Seats of tasks that ended long ago, or are not there: nobody has followed their end. $1, $2 as above.
select 'seat_of_ended' as kind, count(*) as count, (array_agg(task_id::text order by task_id))[1:$2::integer] as ids
from (
  select s.task_id from seat s
  where s.taken_at < now() - $1::interval
    and not exists (select from holding h where h.task_id = s.task_id)
    and not exists (select from task_run r where r.task_id = s.task_id and r.finished_at > now() - $1)
  limit 10000
) dead
where exists (select from broker where seen_at > now() - interval '10 seconds' and started_at < now() - $1)
having count(*) > 0

-- name: stuck_blocked
-- Blocked tasks that have waited for long, the first of their key, though the key has a free seat; and those that nobody
-- has looked at. $1, $2 as above.
select 'stuck_blocked' as kind, count(*) as count, (array_agg(task_id::text order by task_id))[1:$2::integer] as ids
from (
  select b.task_id from blocked b
  where b.since < now() - $1::interval and b.kind is null
    and (b.key is null or (
      (select count(*) from seat where seat.key = b.key) < b.most
      and not exists (select from blocked before where before.key = b.key
                      and (before.turn, before.task_id) < (b.turn, b.task_id))))
  limit 10000
) stuck
where exists (select from broker where seen_at > now() - interval '10 seconds' and started_at < now() - $1)
having count(*) > 0

-- name: stuck_node
-- Roots and nodes of workflows that are blocked though nothing for which they wait has lived for long. $1, $2 as above.
select 'stuck_node' as kind, count(*) as count, (array_agg(task_id::text order by task_id))[1:$2::integer] as ids
from (
  select b.task_id from blocked b join task t on t.id = b.task_id
  where b.kind in (1, 3) and b.since < now() - $1::interval and not waits_for_any(t.upstreams)
    and not exists (
      select from unnest(t.upstreams) as u (id) join task_run r on r.task_id = u.id where r.finished_at > now() - $1)
  limit 10000
) stuck
where exists (select from broker where seen_at > now() - interval '10 seconds' and started_at < now() - $1)
having count(*) > 0

-- name: over_key
-- Concurrency keys of which more tasks are ready or run than any of them allows. $1 is not used, $2 as above.
select 'over_key' as kind, count(*) as count,
       (array_agg(format('%s of %s in queue %s: %s run, %s may', key, name, queue, held, most)))[1:$2::integer] as ids
from (
  select t.concurrency_key as key, l.name, l.queue, count(*) as held, max(t.max_per_key) as most
  from holding h join task t on t.id = h.task_id join lane l on l.id = t.lane
  where $1::interval is not null
  group by h.key, t.concurrency_key, l.name, l.queue
  having count(*) > max(t.max_per_key)
) over_key
having count(*) > 0

-- name: outbox_refused
-- Rows of the outbox of which no task could be made, up to ten thousand. $1, $2 as above.
select 'outbox_refused' as kind, count(*) as count, (array_agg(id::text order by id))[1:$2::integer] as ids
from (select id from outbox where held = 'refused' and enqueued_at < now() - $1::interval order by id limit 10000) o
having count(*) > 0

-- name: slot_lost
-- Slots of schedules that were stored lately and whose task is not: it is kept longer than its slot. $1 is not used, $2
-- as above.
select 'slot_lost' as kind, count(*) as count,
       (array_agg(format('%s %s: %s', schedule, to_char(slot at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), task_id)
                  order by stored_at, schedule))[1:$2::integer] as ids
from (select * from schedule_slot
      where $1::interval is not null and stored_at > now() - interval '1 day' order by stored_at limit 10000) s
where (select true from task where id = s.task_id limit 1) is null
having count(*) > 0

-- name: over_limit
-- Limits under which more tasks run than may, and one of them was assigned long enough after the limit was set: what
-- ran before that may end. All leases that are here were here when the newest was assigned. $1, $2 as above.
select 'over_limit' as kind, count(*) as count,
       (array_agg(format('%s %s: %s run, %s may', c.scope, c.name, l.held, c.maximum)
                  order by c.scope, c.name))[1:$2::integer] as ids
from concurrency_limit c
cross join lateral (
  select count(*) as held, max(assigned_at) as newest from lease
  where lane = any (array(
    select id from lane where c.scope = 'queue' and namespace = 0 and queue = c.name
    union all
    select id from lane where c.scope = 'task' and namespace = 0 and lane.name = c.name))
) l
where c.namespace = 0 and l.held > c.maximum and l.newest > c.changed_at + least($1::interval, interval '10 seconds')
having count(*) > 0

-- name: over_rate
-- Rates under which more tasks run than may have been assigned in any time since they were set. A lease's time is that
-- of BEGIN, up to some seconds before its assign had the limit. Runs that have ended are left out: when they began is
-- their worker's word. $1, $2 as above.
select 'over_rate' as kind, count(*) as count,
       (array_agg(format('%s %s: %s more than may', c.scope, c.name, ceil(w.beyond)) order by c.scope, c.name))[1:$2::integer]
         as ids
from concurrency_limit c
cross join lateral (
  select max(run - first) - c.rate_burst as beyond from (
    select level as run, min(level - 1) over (order by assigned_at, task_id) as first from (
      select assigned_at, task_id,
             row_number() over (order by assigned_at, task_id)
               - extract(epoch from assigned_at) * 1000 * c.rate_count / c.rate_period_ms as level
      from lease
      where assigned_at > c.changed_at + least($1::interval, interval '10 seconds') and lane = any (array(
        select id from lane where c.scope = 'queue' and namespace = 0 and queue = c.name
        union all
        select id from lane where c.scope = 'task' and namespace = 0 and lane.name = c.name))
    ) held
  ) windows
) w
where c.namespace = 0 and c.rate_count is not null and w.beyond > 5000.0 * c.rate_count / c.rate_period_ms
having count(*) > 0

-- name: limit_unheeded
-- Lanes that do not know whether they have a limit: assigns do not lock it. $1 is not used, $2 as above.
select 'limit_unheeded' as kind, count(*) as count,
       (array_agg(format('%s in queue %s', l.name, l.queue) order by l.queue, l.name))[1:$2::integer] as ids
from lane l
where l.namespace = 0 and $1::interval is not null and l.limited <> exists (
  select from concurrency_limit c where c.namespace = 0
    and ((c.scope = 'queue' and c.name = l.queue) or (c.scope = 'task' and c.name = l.name)))
having count(*) > 0
