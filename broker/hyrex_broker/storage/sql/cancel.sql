-- name: cancel
-- Cancels what waits and flags what runs. Ids missing from the result matched nothing here: read them
-- with `standing`. $1 ids, $2 reason. Locks ready, then delayed, then lease rows, each in id order.
with from_ready as (
  delete from ready where ctid = any (array(
    select ctid from ready where task_id = any ($1::uuid[]) order by task_id for update))
  returning task_id, lane, run_number, attempt_number
), from_delayed as (
  delete from delayed where ctid = any (array(
    select ctid from delayed where task_id = any ($1::uuid[]) order by task_id for update))
  returning task_id, lane, run_number, attempt_number
), dropped as materialized (
  select * from from_ready union all select * from from_delayed
), recorded as (
  insert into task_run (task_id, run_number, attempt_number, outcome, final, reason)
  select task_id, run_number, attempt_number, 5, true, $2::text from dropped order by task_id
), held as (
  delete from lease where ctid = any (array(
    select ctid from lease where task_id = any ($1::uuid[]) and cancel_at is null order by task_id for update))
  returning *
), flagged as (
  insert into lease
  select task_id, lane, rank, token, session_id, sequence, assigned_at, deadline, run_number, attempt_number,
         redeliveries, releases, alone, now(), $2::text
  from held
)
select task_id, null::bigint as token, null::bigint as session_id, lane from dropped
union all
select task_id, token, session_id, lane from held

-- name: cancel_blocked
-- Cancels what is blocked; $1, $2 as in `cancel`. In a statement of its own, after that one: what it does not find may
-- have become ready meanwhile. Returns also the keys that it waited for. A workflow's root is flagged: it ends when its
-- nodes have, which the row names. Locks rows of `blocked` in id order.
with found as (
  delete from blocked where ctid = any (array(
    select ctid from blocked where task_id = any ($1::uuid[]) order by task_id for update))
  returning *
), recorded as (
  insert into task_run (task_id, run_number, attempt_number, outcome, final, reason)
  select task_id, run_number, attempt_number, 5, true, $2::text from found where kind is distinct from 1 order by task_id
), flagged as (
  insert into blocked (task_id, lane, rank, kind, since, run_number, attempt_number, redeliveries, releases, alone,
                       cancel_at, cancel_reason)
  select task_id, lane, rank, kind, since, run_number, attempt_number, redeliveries, releases, alone,
         coalesce(cancel_at, now()), coalesce(cancel_reason, $2)
  from found where kind = 1
)
select task_id, lane, key, case when kind = 1 then (select upstreams from old_task(found.task_id)) end as nodes from found

-- name: standing
-- Where tasks stand: live, flagged, ended or unknown; and whether their time to begin is over. $1 ids in order, as in `tasks` (reads.sql).
select i.id,
       (select true from task
        where task.id = i.id and task.id between ($1::uuid[])[1] and ($1::uuid[])[cardinality($1::uuid[])] limit 1) is not null as known,
       coalesce((select cancel_at is not null from lease where task_id = i.id limit 1), false) as flagged,
       (select true from live where live.task_id = i.id limit 1) is not null as live,
       (select expires_at <= now() from task
        where task.id = i.id and task.id between ($1::uuid[])[1] and ($1::uuid[])[cardinality($1::uuid[])] limit 1) is true as expired
from unnest($1::uuid[]) as i (id)

-- name: retry
-- Reopens ended tasks; each end is reopened once, whoever asks. None whose time to begin is over. $1 ids in order, as
-- in `tasks` (reads.sql). One of a followed lane is blocked until `follow` has looked at it, and what no worker runs
-- waits as before. Not those of workflows, which `retry` of workflows.sql reopens.
with last as materialized (
  select i.id, r.run_number
  from unnest($1::uuid[]) as i (id)
  cross join lateral (
    select run_number, final from task_run
    where task_id = i.id and task_id between ($1::uuid[])[1] and ($1::uuid[])[cardinality($1::uuid[])]
    order by run_number desc limit 1
  ) r
  where r.final
    and (select true from live where live.task_id = i.id limit 1) is null
    and coalesce((select (expires_at is null or expires_at > now()) and workflow is null from task
                  where task.id = i.id and task.id between ($1::uuid[])[1] and ($1::uuid[])[cardinality($1::uuid[])] limit 1), true)
), reopened as (
  insert into reopen (task_id, after_run_number)
  select id, run_number from last order by id
  on conflict (task_id, after_run_number) do nothing
  returning task_id, after_run_number
), placed as materialized (
  select r.task_id, t.lane, t.rank, t.kind, r.after_run_number + 1 as run_number, l.followed or t.kind is not null as waits
  from reopened r cross join lateral (
    select lane, rank, kind from task
    where id = r.task_id and id between ($1::uuid[])[1] and ($1::uuid[])[cardinality($1::uuid[])] limit 1
  ) t
  cross join lateral (
    select coalesce((select followed from lane where lane.id = t.lane limit 1), false) as followed
  ) l
), queued as (
  insert into ready (task_id, lane, rank, arrival, run_number, attempt_number, redeliveries, releases, alone)
  select task_id, lane, rank, now(), run_number, 0, 0, 0, false from placed where not waits
), blocked as (
  -- It had a seat, if any, for the runs before: for this one it waits as any other.
  insert into blocked (task_id, lane, rank, kind, run_number, attempt_number, redeliveries, releases, alone)
  select task_id, lane, rank, kind, run_number, 0, 0, 0, false from placed where waits
)
select task_id, lane, rank, waits from placed

-- name: dismiss
-- Dismisses dead letters: tasks whose newest run ended badly for good. Returns those that are dismissed now or were
-- before. $1 ids in order, as in `tasks` (reads.sql), $2 who.
with dead as materialized (
  select i.id, r.run_number
  from unnest($1::uuid[]) as i (id)
  cross join lateral (
    select run_number, final, outcome from task_run
    where task_id = i.id and task_id between ($1::uuid[])[1] and ($1::uuid[])[cardinality($1::uuid[])]
    order by run_number desc limit 1
  ) r
  where r.final and r.outcome in (3, 4, 6)
    and (select true from live where live.task_id = i.id limit 1) is null
), stored as (
  insert into dismissal (task_id, run_number, who)
  select id, run_number, $2::text from dead order by id
  on conflict (task_id, run_number) do nothing
)
select id from dead

-- name: reopened
-- Whether the last recorded end of tasks has been reopened by somebody. $1 ids in order, as in `tasks`.
select i.id, (
  select true from reopen o where o.task_id = i.id
    and o.after_run_number = (
      select max(run_number) from task_run r
      where r.task_id = i.id and r.final
        and r.task_id between ($1::uuid[])[1] and ($1::uuid[])[cardinality($1::uuid[])])
  limit 1) is not null as reopened
from unnest($1::uuid[]) as i (id)
