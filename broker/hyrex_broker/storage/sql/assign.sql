-- name: assign
-- Moves the best ready tasks of some lanes into leases and returns them with their payloads.
-- The session rows are locked FOR KEY SHARE first: if one of them is no longer this broker's, nothing
-- is taken (rule 3). A takeover locks them FOR UPDATE; a renewal does not block.
-- $1 session ids in order, $2 their generations, $3 this broker's id.
-- $4 lane, $5 quota, $6 offset of its first slot, $7 first pair, $8 last pair: one entry per lane.
-- $9 rank, $10 low-water mark: pairs, for each lane its ranks in ascending order.
-- $11 the session of each slot, by its place in $1, an array as text: slots are numbered from 1, and a
-- single one is that of every slot. $12 sequences of the sessions.
-- The first column tells how many of the sessions are this broker's: fewer than asked means that nothing
-- was taken; there is always at least one row, all null behind taken_at if nothing was found. Only the first
-- row has these two.
-- $13 the token of each slot, an array as text, $14 whether limited lanes may be read (their limit is
-- locked by this transaction), $15 largest payload to return in bytes, $16 slack of a deadline in ms.
-- $17 ids from this one on are looked for in the partitions of the last days only; an older one costs a call.
-- A ready row whose task is not stored cannot run: it ends as lost, and is returned without max_retries. Where
-- the partition of its day is gone as well, that cannot be recorded. A task that has expired ends as cancelled, and is
-- returned with no time left; the others that may expire have at least a millisecond. That is judged by the time of the
-- statement: that of BEGIN is as much earlier as the locks of limits were waited for.
with mine as materialized (
  select w.id
  from unnest($1::bigint[], $2::bigint[]) as s (id, generation)
  cross join lateral (
    select id from worker_session
    where worker_session.id = s.id and owner = $3 and worker_session.generation = s.generation
      and ended_at is null
    for key share
  ) w
), picked as (
  delete from ready where ctid = any (array(
    select chosen.place
    from unnest($4::integer[], $5::integer[], $7::integer[], $8::integer[]) as q (lane, quota, first, last)
    cross join lateral (
      select head.place
      from generate_series(q.first, q.last) as pair (n)
      cross join lateral (
        select r.ctid as place from ready r
        where r.lane = q.lane and r.rank = ($9::smallint[])[pair.n] and r.arrival >= ($10::timestamptz[])[pair.n]
        order by r.arrival, r.task_id
        limit q.quota
        for update skip locked
      ) head
      limit q.quota
    ) chosen
    where (select count(*) from mine) = cardinality($1::bigint[])
      and ($14::boolean or not (select l.limited from lane l where l.id = q.lane))
  ))
  returning task_id, lane, rank, arrival, run_number, attempt_number, redeliveries, releases, alone
), numbered as (
  -- The offset of each lane comes first among its rows: to look for it in $4 for each of them would take a time
  -- that grows with the lanes of the plan.
  select *, first_value(first) over turns + (row_number() over turns)::integer - 1 as slot
  from (
    select task_id, lane, rank, arrival, run_number, attempt_number, redeliveries, releases, alone,
           null::integer as first
    from picked
    union all
    select null, lane, -1, null, null, null, null, null, null, first
    from unnest($4::integer[], $6::integer[]) as q (lane, first)
  ) of_lane
  window turns as (partition by lane order by rank, arrival, task_id)
), found as materialized (
  select n.*, ($1::bigint[])[p.place] as session_id, ($12::bigint[])[p.place] as sequence,
         places.of_token[n.slot] as token, t.*
  from numbered n
  cross join (select ($11::text)::integer[] as of_slot, ($13::text)::bigint[] as of_token offset 0) places
  cross join lateral (select coalesce(places.of_slot[n.slot], places.of_slot[1]) as place) p
  left join lateral (
    select max_retries, timeout_ms, parent_id, root_id, submitted_at, content_type, codec, headers, trace_context,
           octet_length(payload) as size,
           case when octet_length(payload) <= $15::integer then payload end as payload, expires_at
    from (
      select * from task where task.id = n.task_id and task.id >= $17::uuid
      union all
      select * from old_task(n.task_id) where n.task_id < $17::uuid
    ) task
    offset 0
  ) t on true
  where n.task_id is not null
), ended as (
  insert into task_run (task_id, run_number, attempt_number, outcome, final, finished_at, reason, cause)
  -- Not the time of the BEGIN: the task would have ended before its time to begin was over.
  select task_id, run_number, attempt_number, case when max_retries is null then 6 else 5 end, true, statement_timestamp(),
         case when max_retries is null then 'its task is not stored' else 'it did not begin in time' end,
         case when max_retries is not null then 3 end
  from found
  where case when max_retries is null then
    to_regclass('task_run_' || to_char(
      to_timestamp(('x' || left(replace(task_id::text, '-', ''), 12))::bit(48)::bigint / 1000.0) at time zone 'UTC',
      'YYYYMMDD')) is not null
    else expires_at <= statement_timestamp() end
  order by task_id
  on conflict do nothing
), placed as (
  insert into lease (task_id, lane, rank, token, session_id, sequence, assigned_at, deadline,
                     run_number, attempt_number, redeliveries, releases, alone)
  select task_id, lane, rank, token, session_id, sequence, now(),
         now() + (timeout_ms + $16::bigint) * interval '1 millisecond',
         run_number, attempt_number, redeliveries, releases, alone
  from found where max_retries is not null and (expires_at is null or expires_at > statement_timestamp())
  order by task_id
)
select case when row_number() over () = 1 then m.mine end as mine,
       case when row_number() over () = 1 then now() end as taken_at,
       f.task_id::text, f.lane, f.rank, f.arrival, f.session_id, f.sequence, f.token,
       f.run_number, f.attempt_number, f.alone, f.max_retries, f.timeout_ms, f.parent_id::text, f.root_id::text,
       f.submitted_at, f.headers, f.size, f.payload, f.trace_context,
       case when f.expires_at is not null then ceil(extract(epoch from f.expires_at - statement_timestamp()) * 1000)::bigint end
         as expires_in_ms,
       f.content_type, f.codec
from (select count(*)::integer as mine from mine) m left join found f on true

-- name: payloads
-- Payloads that were too large to come with their assignment. $1 ids in order, as in `tasks` (reads.sql).
select i.id, t.payload
from unnest($1::uuid[]) as i (id)
cross join lateral (
  select payload from task where task.id = i.id and task.id between ($1::uuid[])[1] and ($1::uuid[])[cardinality($1::uuid[])] limit 1
) t

-- name: lanes_with_work
-- Every (lane, rank) that has a ready task, by skipping from one to the next in the index, which is only for
-- statements that ask for lanes.
with recursive pair as (
  (select lane, rank from ready where lane >= 0 order by lane, rank limit 1)
  union all
  select n.lane, n.rank
  from pair p cross join lateral (
    select r.lane, r.rank from ready r where (r.lane, r.rank) > (p.lane, p.rank) and r.lane >= p.lane
    order by r.lane, r.rank limit 1
  ) n
)
select lane, rank from pair

-- name: work_above
-- Those (lane, rank) that have a ready task at or above their low-water marks.
-- $1 lane, $2 rank, $3 mark: arrays of the same length.
select m.lane, m.rank
from unnest($1::integer[], $2::smallint[], $3::timestamptz[]) as m (lane, rank, mark)
cross join lateral (
  select from ready where ready.lane = m.lane and ready.rank = m.rank and ready.arrival >= m.mark limit 1
) r

-- name: below_marks
-- The first ready task below each low-water mark, where there is one: left there by a statement that failed.
-- $1 lane, $2 rank, $3 mark: arrays of the same length.
select m.lane, m.rank, r.arrival
from unnest($1::integer[], $2::smallint[], $3::timestamptz[]) as m (lane, rank, mark)
cross join lateral (
  select arrival from ready
  where ready.lane = m.lane and ready.rank = m.rank and ready.arrival < m.mark
  order by arrival limit 1
) r

-- name: lock_limits
-- Locks the limits of some lanes in key order and returns them; the count must be a later statement.
-- $1 scopes, $2 names: arrays of the same length.
select scope, name, maximum, rate_count, rate_period_ms, rate_burst from concurrency_limit
where namespace = 0 and (scope, name) in (select * from unnest($1::text[], $2::text[]))
order by scope, name
for update

-- name: count_leases
-- Leases under some limits, in every lane that shares them, those unknown to this broker included.
-- $1 scopes, $2 names: arrays of the same length.
select q.scope, q.name,
       (select count(*) from lease where lease.lane = any (array(
          select id from lane where q.scope = 'queue' and namespace = 0 and queue = q.name
          union all
          select id from lane where q.scope = 'task' and namespace = 0 and lane.name = q.name)))::integer as held
from unnest($1::text[], $2::text[]) as q (scope, name)

-- name: rate_uses
-- The newest use of some limits with a rate, and the time: later than their lock, which now() is not.
-- $1 scopes, $2 names: arrays of the same length.
select q.scope, q.name, u.id, u.full_at, clock_timestamp() as at
from unnest($1::text[], $2::text[]) as q (scope, name)
left join lateral (
  select id, full_at from rate_use r
  where r.namespace = 0 and r.scope = q.scope and r.name = q.name
  order by r.namespace desc, r.scope desc, r.name desc, r.id desc limit 1
) u on true

-- name: use_rates
-- Stores the newest use of some limits in the place of the one before. Call under their lock.
-- $1 scopes, $2 names, $3 full again at, $4 the id of the one before, or null: arrays of the same length.
with before as (
  delete from rate_use r
  using unnest($1::text[], $2::text[], $4::bigint[]) as u (scope, name, id)
  where r.namespace = 0 and r.scope = u.scope and r.name = u.name and r.id = u.id
)
insert into rate_use (namespace, scope, name, full_at)
select 0, u.scope, u.name, u.full_at
from unnest($1::text[], $2::text[], $3::timestamptz[]) as u (scope, name, full_at)
order by u.scope, u.name
