-- name: sweep
-- Ends tasks that wait though their time to begin is over. Those that run, or that an assign or a cancel has locked, are
-- looked at again: in 5 s, and the later the longer they run. So are those that have ended a moment ago: a retry may
-- have begun before their time was over. Of the others nothing is known any more.
-- A node of a workflow may have another time by now, since a retry put it back; only such tasks, of followed lanes, are
-- looked up. $1 low-water mark, $2 how many. Passes over what another broker looks at, so it waits for no lock.
-- Returns a row of null, with how many were looked at and up to when, and one for each task that ended, with the
-- concurrency key that it waited for.
with due as (
  delete from expiry where ctid = any (array(
    select ctid from expiry where look_at >= $1::timestamptz and look_at <= now()
    order by look_at, task_id limit $2::integer for update skip locked))
  returning look_at, task_id, expires_at
), from_ready as (
  delete from ready where ctid = any (array(
    select ctid from ready where task_id = any (array(select task_id from due))
      and ((select followed from lane where lane.id = ready.lane limit 1) is not true
           or (select expires_at > now() from old_task(ready.task_id)) is not true)
    order by task_id for update skip locked))
  returning task_id, lane, run_number, attempt_number
), from_delayed as (
  delete from delayed where ctid = any (array(
    select ctid from delayed where task_id = any (array(select task_id from due))
      and ((select followed from lane where lane.id = delayed.lane limit 1) is not true
           or (select expires_at > now() from old_task(delayed.task_id)) is not true)
    order by task_id for update skip locked))
  returning task_id, lane, run_number, attempt_number
), from_blocked as (
  delete from blocked where ctid = any (array(
    select ctid from blocked
    -- What waits for nodes of its workflow has no time to begin yet.
    where task_id = any (array(select task_id from due)) and kind is distinct from 3
      and ((select followed from lane where lane.id = blocked.lane limit 1) is not true
           or (select expires_at > now() from old_task(blocked.task_id)) is not true)
    order by task_id for update skip locked))
  returning task_id, lane, run_number, attempt_number, key
), ended as materialized (
  select *, null::bigint as key from from_ready
  union all select *, null from from_delayed
  union all select * from from_blocked
), recorded as (
  insert into task_run (task_id, run_number, attempt_number, outcome, final, reason, cause)
  select task_id, run_number, attempt_number, 5, true, 'it did not begin in time', 3 from ended order by task_id
), again as (
  insert into expiry (look_at, task_id, expires_at)
  select now() + greatest(interval '5 seconds', least(now() - expires_at, interval '1 hour')), task_id, expires_at
  from due
  where task_id <> all (array(select task_id from ended))
    and ((select true from live where live.task_id = due.task_id limit 1) or expires_at > now() - interval '5 seconds')
  order by 1, 2
)
select null::uuid as task_id, null::integer as lane, null::bigint as key, count(*)::integer as looked_at, max(look_at) as last_look
from due
union all
select task_id, lane, key, null, null from ended

-- name: put_off
-- Looks at the first task that is due in a minute again, since the database refuses to end it. $1 low-water mark.
with due as (
  delete from expiry where ctid = (
    select ctid from expiry where look_at >= $1::timestamptz and look_at <= now()
    order by look_at, task_id limit 1 for update skip locked)
  returning look_at, task_id, expires_at
), again as (
  insert into expiry (look_at, task_id, expires_at) select now() + interval '1 minute', task_id, expires_at from due
)
select task_id, look_at from due

-- name: due_below
-- The first look below a low-water mark, where there is one: left there by a statement that failed. $1 mark.
select look_at from expiry where look_at < $1 order by look_at limit 1

-- name: next_due
-- How long until the next look, and the database's time. $1 low-water mark.
select extract(epoch from (select look_at from expiry where look_at >= $1 order by look_at limit 1) - now())::float8
         as wait_s,
       now() as now
