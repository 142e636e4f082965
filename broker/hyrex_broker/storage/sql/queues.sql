-- name: queues
-- Queues by name with what is in them. Counts stop at a cap, so that a look at a full queue costs no
-- more than one at a busy one. $1 names above this one, $2 only these names or null, $3 how many, $4 cap.
select q.name, q.paused, coalesce(q.max_waiting, 0) as max_waiting,
       coalesce(q.retention_days, 0) as retention_days, coalesce(q.dead_letter_days, 0) as dead_letter_days,
       coalesce(c.maximum, 0) as concurrency_limit, c.rate_count, c.rate_period_ms, c.rate_burst,
       (select next_at from limit_rate r
        where c.rate_count is not null and r.namespace = 0 and r.scope = 'queue' and r.name = q.name
          and r.next_at > now()) as next_token_at,
       (select count(*) from (
          select from lane l cross join lateral (select from ready where lane = l.id limit $4::integer + 1) r
          where l.namespace = 0 and l.queue = q.name limit $4::integer + 1) waiting) as queued,
       (select count(*) from (
          select from lane l cross join lateral (select from delayed where lane = l.id limit $4::integer) d
          where l.namespace = 0 and l.queue = q.name limit $4::integer) later) as delayed,
       (select count(*) from (
          select from lane l cross join lateral (select from blocked where lane = l.id limit $4::integer) b
          where l.namespace = 0 and l.queue = q.name and l.followed limit $4::integer) for_keys) as blocked,
       (select count(*) from lease
        where lane = any (array(select id from lane where namespace = 0 and queue = q.name))) as running
from queue q
left join lateral (
  select maximum, rate_count, rate_period_ms, rate_burst from concurrency_limit
  where namespace = 0 and scope = 'queue' and concurrency_limit.name = q.name limit 1
) c on true
where q.namespace = 0 and q.name > $1::text and ($2::text[] is null or q.name = any ($2))
order by q.name
limit $3::integer

-- name: names
-- Names of queues, in order. $1 above this one.
select name from queue where namespace = 0 and name > $1::text order by name

-- name: patterns
-- Patterns of the live sessions, and how many sessions have them.
select queue_patterns, count(*) as sessions from worker_session
where ended_at is null and expires_at > now()
group by queue_patterns

-- name: put
-- Makes a queue known, pauses or resumes it, and sets the most that may wait in it (0: any number) and for how many days
-- its tasks are kept (0: as long as the brokers say). $1 name, $2 paused, $3 maximum, $4 days of those that ended well,
-- $5 of others; null leaves each as it is.
insert into queue (namespace, name, paused, max_waiting, retention_days, dead_letter_days)
values (0, $1::text, coalesce($2::boolean, false), nullif($3::integer, 0), nullif($4::integer, 0), nullif($5::integer, 0))
on conflict (namespace, name) do update
set paused = coalesce($2::boolean, queue.paused), used_at = now(),
    max_waiting = case when $3::integer is null then queue.max_waiting else excluded.max_waiting end,
    retention_days = case when $4::integer is null then queue.retention_days else excluded.retention_days end,
    dead_letter_days = case when $5::integer is null then queue.dead_letter_days else excluded.dead_letter_days end

-- name: limit_of
-- A queue's limit as it is. $1 name.
select maximum, rate_count, rate_period_ms, rate_burst from concurrency_limit
where namespace = 0 and scope = 'queue' and name = $1

-- name: limit
-- Sets a queue's limit by an operator's word. $1 name, $2 maximum or null, $3 count, $4 period and $5 burst of its rate,
-- or null. Call under `lock_lanes`.
insert into concurrency_limit (namespace, scope, name, maximum, source, rate_count, rate_period_ms, rate_burst)
values (0, 'queue', $1, $2, 'operator', $3, $4, $5)
on conflict (namespace, scope, name) do update
set maximum = excluded.maximum, rate_count = excluded.rate_count, rate_period_ms = excluded.rate_period_ms,
    rate_burst = excluded.rate_burst, source = excluded.source, changed_at = clock_timestamp()

-- name: unlimit
-- Removes a queue's limit, whoever set it. $1 name. Call under `lock_lanes`.
delete from concurrency_limit where namespace = 0 and scope = 'queue' and name = $1

-- name: delete
-- Removes a queue without lanes (it never had a task) and its limit; returns its name if it was there.
-- $1 name. Call under `lock_lanes`, so that no lane comes to be meanwhile.
with gone as (
  delete from queue q where q.namespace = 0 and q.name = $1::text
    and not exists (select from lane l where l.namespace = 0 and l.queue = q.name)
  returning q.name
), unlimited as (
  delete from concurrency_limit c using gone
  where c.namespace = 0 and c.scope = 'queue' and c.name = gone.name
)
select name from gone

-- name: lanes_of_queue
-- Lanes of a queue. $1 name.
select id, followed from lane where namespace = 0 and queue = $1

-- name: places_to_purge
-- Where something waits in some lanes: (lane, rank) pairs of ready tasks with the first arrival, and lanes of
-- delayed ones (rank null). $1 lanes, $2 arrived until.
select q.lane, k.rank::smallint as rank, r.arrival
from unnest($1::integer[]) as q (lane)
cross join generate_series(0, 9) as k (rank)
cross join lateral (
  select arrival from ready
  where ready.lane = q.lane and ready.rank = k.rank and ready.arrival <= $2::timestamptz
  order by arrival limit 1
) r
union all
select q.lane, null, null
from unnest($1::integer[]) as q (lane)
cross join lateral (select from delayed where delayed.lane = q.lane limit 1) d

-- name: purge_ready
-- Cancels ready tasks, by place and arrival, and returns them. Rows that others have locked are left out: those
-- tasks are being assigned or cancelled. A chunk begins where the last one ended ($3): while some transaction is
-- open, the rows that earlier chunks deleted would be read again by each.
-- $1 lane, $2 rank, $3 arrived from: one entry per place. $4 arrived until, $5 reason, $6 how many.
-- Locks ready rows, and waits for none.
with dropped as (
  delete from ready where ctid = any (array(
    select head.spot
    from unnest($1::integer[], $2::smallint[], $3::timestamptz[]) as q (lane, rank, mark)
    cross join lateral (
      select r.ctid as spot from ready r
      where r.lane = q.lane and r.rank = q.rank and r.arrival >= q.mark and r.arrival <= $4::timestamptz
      order by r.arrival, r.task_id
      limit $6::integer
      for update skip locked
    ) head
    limit $6::integer))
  returning task_id, run_number, attempt_number, lane, rank, arrival
), recorded as (
  insert into task_run (task_id, run_number, attempt_number, outcome, final, reason, cause)
  select task_id, run_number, attempt_number, 5, true, $5::text, 2 from dropped order by task_id
)
select task_id, lane, rank, arrival from dropped

-- name: purge_delayed
-- The same for delayed tasks, by lane and id; what is being promoted is left. $1 lane, $2 ids above: one entry
-- per lane. $3 submitted until, $4 reason, $5 how many.
with dropped as (
  delete from delayed where ctid = any (array(
    select head.spot
    from unnest($1::integer[], $2::uuid[]) as q (lane, mark)
    cross join lateral (
      select d.ctid as spot from delayed d
      where d.lane = q.lane and d.task_id > q.mark
        and coalesce((select submitted_at from task where task.id = d.task_id), $3) <= $3::timestamptz
      order by d.task_id
      limit $5::integer
      for update skip locked
    ) head
    limit $5::integer))
  returning task_id, run_number, attempt_number, lane
), recorded as (
  insert into task_run (task_id, run_number, attempt_number, outcome, final, reason, cause)
  select task_id, run_number, attempt_number, 5, true, $4::text, 2 from dropped order by task_id
)
select task_id, lane from dropped

-- name: purge_blocked
-- The same for blocked tasks, and before the others: their ends would let these go on. Not for roots of workflows, which
-- end when their nodes have. Returns also the keys that they waited for. $1..$5 as in `purge_delayed`.
with dropped as (
  delete from blocked where ctid = any (array(
    select head.spot
    from unnest($1::integer[], $2::uuid[]) as q (lane, mark)
    cross join lateral (
      select b.ctid as spot from blocked b
      where b.lane = q.lane and b.task_id > q.mark and b.kind is distinct from 1
        and coalesce((select submitted_at from task where task.id = b.task_id), $3) <= $3::timestamptz
      order by b.task_id
      limit $5::integer
      for update skip locked
    ) head
    limit $5::integer))
  returning task_id, run_number, attempt_number, lane, key
), recorded as (
  insert into task_run (task_id, run_number, attempt_number, outcome, final, reason, cause)
  select task_id, run_number, attempt_number, 5, true, $4::text, 2 from dropped order by task_id
)
select task_id, lane, key from dropped

-- name: now
-- The database's time.
select now()
