-- name: follow
-- See the function of this name (migrations/0001_first.sql). $1 tasks, in the order of their ids, $2 keys.
-- Returns what became ready, and what ended (without a rank).
select moved, into_lane, at_rank from follow($1::uuid[], $2::bigint[])

-- name: elected
-- Whether this broker sweeps for all: the oldest one that is alive does. $1 id.
select coalesce(min(id) = $1, false) as elected from broker where seen_at > now() - interval '10 seconds'

-- name: dead_seats
-- Seats of tasks that have ended, of so many from a task on, by its id. $1 tasks above this one, $2 how many. The
-- last row has the last task that was looked at, and none if there was no other.
with looked as materialized (
  select task_id from seat where task_id > $1::uuid order by task_id limit $2::integer
)
select task_id, false as last from looked
where coalesce((select true from lease where lease.task_id = looked.task_id limit 1),
               (select true from ready where ready.task_id = looked.task_id limit 1),
               (select true from delayed where delayed.task_id = looked.task_id limit 1)) is null
union all
select (select task_id from looked order by task_id desc limit 1), true

-- name: stuck
-- Tasks that wait although their key has a free seat, or that nobody has looked at yet, in the same way. $1, $2 as in
-- `dead_seats`.
with looked as materialized (
  select task_id, kind, key, most from blocked where task_id > $1::uuid order by task_id limit $2::integer
)
select task_id, false as last from looked
where kind is null and (key is null or (
  select count(*) from (select from seat where seat.key = looked.key limit looked.most) s) < most)
union all
select (select task_id from looked order by task_id desc limit 1), true
