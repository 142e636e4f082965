-- name: promote
-- Moves delayed tasks whose time has come into ready; arrival is anew. $1 low-water mark, $2 how many.
-- One of a followed lane that has no seat, as after its first delay, waits in `blocked` for `follow`.
with due as (
  delete from delayed where ctid = any (array(
    select ctid from delayed where run_at >= $1 and run_at <= now()
    order by run_at, task_id limit $2 for update skip locked))
  returning task_id, lane, rank, run_at, run_number, attempt_number, redeliveries, releases, alone
), followed as materialized (
  select array(select l.id from lane l where l.id = any (array(select lane from due group by lane)) and l.followed) as lanes
), apart as materialized (
  select due.* from followed
  cross join due
  where followed.lanes <> '{}' and due.lane = any (followed.lanes)
    and (select true from seat where seat.task_id = due.task_id limit 1) is null
), queued as (
  insert into ready (task_id, lane, rank, arrival, run_number, attempt_number, redeliveries, releases, alone)
  select task_id, lane, rank, now(), run_number, attempt_number, redeliveries, releases, alone
  from due where task_id <> all (array(select task_id from apart)) order by task_id
), blocked as (
  insert into blocked (task_id, lane, rank, run_number, attempt_number, redeliveries, releases, alone)
  select task_id, lane, rank, run_number, attempt_number, redeliveries, releases, alone
  from apart order by task_id
)
select lane, rank, max(run_at) as last_run_at, count(*)::integer as moved,
       (select array_agg(task_id) from apart where apart.lane = due.lane and apart.rank = due.rank) as blocked
from due group by lane, rank

-- name: due_below
-- The first delayed task below a low-water mark, where there is one: left there by a statement that failed.
-- $1 mark.
select run_at from delayed where run_at < $1 order by run_at limit 1

-- name: next_due
-- How long until the next delayed task is due, and the database's time. $1 low-water mark.
select extract(epoch from (select run_at from delayed where run_at >= $1 order by run_at limit 1) - now())::float8
         as wait_s,
       now() as now
