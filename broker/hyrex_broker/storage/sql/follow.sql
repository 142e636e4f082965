-- name: follow
-- See the function of this name (migrations/0001_first.sql). $1 tasks, in the order of their ids, $2 keys.
-- Returns what became ready, and what ended (without a rank).
select moved, into_lane, at_rank from follow($1::uuid[], $2::bigint[])

-- name: elected
-- Whether this broker sweeps for all: the oldest one that is alive does. And `settled`: no end and no blocked task will
-- appear with an earlier time. That is so long ago, or the begin of the oldest transaction of a broker that has written and is
-- not visible yet, as while its commit waits for a standby. Brokers are known by the first part of their connections' name.
-- One that was seen in the future is gone, and the clock was set back since. $1 id, $2 how long ago.
select coalesce(min(id) = $1, false) as elected, least(now() - $2::interval, (
    select min(xact_start) - interval '1 microsecond' from pg_stat_activity
    where datname = current_database() and backend_xid is not null
      and starts_with(application_name, regexp_replace(current_setting('application_name'), '-reads$', '')))) as settled
from broker where seen_at between now() - interval '10 seconds' and now() + interval '10 seconds'

-- name: ended
-- A page of ends in followed lanes, in the order of their times, and of these what nobody has followed: tasks that still have
-- a seat; keys of tasks that never ran, if others wait for them; nodes and roots that wait for nothing that lives, or are to
-- be stopped. The last row has the last end that was looked at; there is no row if there was none.
-- $1 ends after this time, or $2 at it and of tasks above this one, $3 not after this time, $4 how many.
with looked as materialized (
  select finished_at, task_id, token is null as never_ran from task_run
  where is_to_follow(final, token)
    and (finished_at, task_id) > ($1::timestamptz, $2::uuid) and finished_at <= $3::timestamptz
  order by finished_at, task_id limit $4::integer
), waiting as materialized (
  select b.task_id, b.cancel_at
  from (
    select distinct unnest(t.downstreams || t.parent_id) as id
    from looked l
    cross join lateral (
      select downstreams, parent_id from task where task.id = l.task_id and downstreams is not null limit 1
    ) t
    where exists (select from used_feature where name = 'workflows')
  ) w
  cross join lateral (select task_id, cancel_at from blocked where blocked.task_id = w.id and kind in (1, 3) limit 1) b
)
select l.task_id, null::bigint as key, null::timestamptz as at
from looked l
where (select true from seat where seat.task_id = l.task_id limit 1)
  and coalesce((select true from lease where lease.task_id = l.task_id limit 1),
               (select true from ready where ready.task_id = l.task_id limit 1),
               (select true from delayed where delayed.task_id = l.task_id limit 1)) is null
union all
select null, k.key_hash, null
from (
  select distinct t.key_hash
  from looked l
  cross join lateral (select key_hash from task where task.id = l.task_id and key_hash is not null limit 1) t
  where l.never_ran
) k
where (select true from blocked where blocked.key = k.key_hash limit 1)
union all
select w.task_id, null, null
from waiting w
cross join lateral (select upstreams, workflow from task where task.id = w.task_id limit 1) t
where not waits_for_any(t.upstreams) or t.workflow ? 'fail_fast' or w.cancel_at is not null
union all
(select task_id, null, finished_at from looked order by finished_at desc, task_id desc limit 1)

-- name: entered
-- Of what was put into `blocked` and has to be looked at, in the same way.
with looked as materialized (
  select coalesce(cancel_at, since) as at, task_id, kind, cancel_at from blocked
  where ((kind is null and key is null) or cancel_at is not null or (kind in (1, 3) and run_number > 0))
    and (coalesce(cancel_at, since), task_id) > ($1::timestamptz, $2::uuid)
    and coalesce(cancel_at, since) <= $3::timestamptz
  order by coalesce(cancel_at, since), task_id limit $4::integer
)
select l.task_id, null::bigint as key, null::timestamptz as at
from looked l
where l.kind is null or l.cancel_at is not null
  or (select not waits_for_any(t.upstreams) or t.workflow ? 'fail_fast' from task t where t.id = l.task_id limit 1)
union all
(select task_id, null, at from looked order by at desc, task_id desc limit 1)

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
