-- What `hyrex verify --repair` does. Each is true to what the tables say at that moment: what is in order by then is
-- left alone. Called by one process at a time, while no day is removed (the lock of `try_to_exclude_others`).

-- name: stranded
-- Makes ready what has neither an end nor a live row; its next attempt is due. $1 ids in order. A task in this state
-- stays in it, since every move begins at a live row; a retry of it makes nothing ready, as its end is reopened. One of
-- a followed lane is blocked until it is followed, and so is what waits for others or for a call from outside.
with found as materialized (
select t.id, t.lane, t.rank, coalesce(r.run_number + 1, 0) as run_number,
       case when r.final then 0 else coalesce(r.attempt_number + (r.outcome in (3, 4))::integer, 0) end as attempt_number,
       coalesce((select followed from lane where lane.id = t.lane), false) as followed,
       case when t.downstreams is not null then 3 else t.kind end as kind
from unnest($1::uuid[]) as i (id)
join task t on t.id = i.id
left join lateral (
  select run_number, attempt_number, outcome, final from task_run
  where task_id = i.id order by run_number desc limit 1
) r on true
where not exists (select from live where live.task_id = i.id)
  and not exists (
    select from task_run t where t.task_id = i.id and t.final and not exists (
      select from reopen where task_id = i.id and after_run_number = t.run_number))
), waiting as (
  insert into blocked (task_id, lane, rank, kind, run_number, attempt_number, redeliveries, releases, alone)
  select id, lane, rank, kind, run_number, attempt_number, 0, 0, false from found
  where followed or kind is not null order by id
  on conflict (task_id) do nothing
  returning task_id
), queued as (
  insert into ready (task_id, lane, rank, arrival, run_number, attempt_number, redeliveries, releases, alone)
  select id, lane, rank, now(), run_number, attempt_number, 0, 0, false from found
  where not followed and kind is null order by id
  on conflict (task_id) do nothing
  returning task_id
)
select task_id from waiting union all select task_id from queued

-- name: followed
-- Follows tasks, as a broker does. $1 ids in order.
with moved as materialized (select count(*) from follow($1::uuid[], '{}'))
select id from moved cross join unnest($1) as i (id)

-- name: advanced
-- Decides what has nothing to wait for any more in workflows, as a broker does. $1 ids in order. What a payload may have
-- is what senders have as its limit (hyrex/arguments/limits.py).
select decided from advance($1::uuid[], 4194304) where became <> 9

-- name: lock_live
-- Locks what is live of some tasks, as a cancel does: ready, then delayed, then leases, each in id order; the next
-- statement sees what is true under these locks. $1 ids in order.
with r as materialized (
  select task_id from ready where task_id = any ($1::uuid[]) order by task_id for update
), d as materialized (
  select task_id from delayed where task_id = any ($1::uuid[]) order by task_id for update
), l as materialized (
  select task_id from lease where task_id = any ($1::uuid[]) order by task_id for update
), b as materialized (
  select task_id from blocked where task_id = any ($1::uuid[]) order by task_id for update
)
select (select count(*) from r) + (select count(*) from d) + (select count(*) from l) + (select count(*) from b)

-- name: two_places
-- Of a task that is live in two places, removes what waits: a lease stays, else what is ready. $1 ids. Call after
-- `lock_live`.
with r as (
  delete from ready where task_id = any ($1::uuid[])
    and exists (select from lease where task_id = ready.task_id)
  returning task_id
), d as (
  delete from delayed where task_id = any ($1::uuid[])
    and (exists (select from lease where task_id = delayed.task_id)
         or exists (select from ready where task_id = delayed.task_id))
  returning task_id
), b as (
  delete from blocked where task_id = any ($1::uuid[])
    and (exists (select from lease where task_id = blocked.task_id)
         or exists (select from ready where task_id = blocked.task_id)
         or exists (select from delayed where task_id = blocked.task_id))
  returning task_id
)
select task_id from r union all select task_id from d union all select task_id from b

-- name: live_after_end
-- Removes what waits of a task that has ended: the end that was recorded stands. $1 ids. Call after `lock_live`.
with ended as materialized (
  select i.id from unnest($1::uuid[]) as i (id)
  where exists (
    select from task_run t where t.task_id = i.id and t.final and not exists (
      select from reopen where task_id = i.id and after_run_number = t.run_number))
), r as (
  delete from ready where task_id = any (array(select id from ended)) returning task_id
), d as (
  delete from delayed where task_id = any (array(select id from ended)) returning task_id
), b as (
  delete from blocked where task_id = any (array(select id from ended)) returning task_id
)
select task_id from r union all select task_id from d union all select task_id from b

-- name: orphan_leases
-- Leases whose session is not there or has ended. $1 ids in order.
select task_id::text, token, session_id from lease
where task_id = any ($1::uuid[])
  and not exists (select from worker_session s where s.id = lease.session_id and s.ended_at is null)
order by task_id

-- name: keys_of_nothing
-- Frees idempotency keys whose task is not stored, as a submit does. $1 ids.
delete from idempotency where ctid = any (array(
  select ctid from idempotency where task_id = any ($1::uuid[])
    and not exists (select from task where id = idempotency.task_id)
  order by namespace, name, key for update skip locked))
returning task_id

-- name: reopened_nothing
-- Removes what is remembered of retries whose run is not stored. $1 ids.
delete from reopen where ctid = any (array(
  select ctid from reopen where task_id = any ($1::uuid[])
    and not exists (select from task_run t where t.task_id = reopen.task_id
                    and t.run_number = reopen.after_run_number and t.final)
  order by task_id, after_run_number for update skip locked))
returning task_id

-- name: dismissed_nothing
-- Removes dismissals of runs that are not stored as bad ends. $1 ids.
delete from dismissal where ctid = any (array(
  select ctid from dismissal where task_id = any ($1::uuid[])
    and not exists (select from task_run t where t.task_id = dismissal.task_id
                    and t.run_number = dismissal.run_number and t.final and t.outcome in (3, 4, 6))
  order by task_id, run_number for update skip locked))
returning task_id

-- name: passed_over
-- Makes tasks ready anew, above every mark. $1 ids.
with gone as (
  delete from ready where ctid = any (array(
    select ctid from ready where task_id = any ($1::uuid[]) order by task_id for update skip locked))
  returning *
)
insert into ready (task_id, lane, rank, arrival, run_number, attempt_number, redeliveries, releases, alone)
select task_id, lane, rank, now(), run_number, attempt_number, redeliveries, releases, alone from gone order by task_id
returning task_id

-- name: limit_unheeded
-- Has every lane know whether it has a limit. Call under `lock_lanes`.
update lane l set limited = not l.limited
where l.namespace = 0 and l.limited <> exists (
  select from concurrency_limit c where c.namespace = 0
    and ((c.scope = 'queue' and c.name = l.queue) or (c.scope = 'task' and c.name = l.name)))
returning l.id
