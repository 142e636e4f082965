-- name: queues
-- Queues by name with what is in them. Counts stop at a cap, so that a look at a full queue costs no
-- more than one at a busy one. $1 names above this one, $2 only this name or null, $3 how many, $4 cap.
select q.name, q.paused,
       coalesce((select maximum from concurrency_limit c
                 where c.namespace = 0 and c.scope = 'queue' and c.name = q.name), 0) as concurrency_limit,
       (select count(*) from (
          select from lane l cross join lateral (select from ready where lane = l.id limit $4::integer + 1) r
          where l.namespace = 0 and l.queue = q.name limit $4::integer + 1) waiting) as queued,
       (select count(*) from (
          select from lane l cross join lateral (select from delayed where lane = l.id limit $4::integer) d
          where l.namespace = 0 and l.queue = q.name limit $4::integer) later) as delayed,
       (select count(*) from lease
        where lane = any (array(select id from lane where namespace = 0 and queue = q.name))) as running
from queue q
where q.namespace = 0 and q.name > $1::text and ($2::text is null or q.name = $2)
order by q.name
limit $3::integer

-- name: patterns
-- Patterns of the live sessions, and how many sessions have them.
select queue_patterns, count(*) as sessions from worker_session
where ended_at is null and expires_at > now()
group by queue_patterns

-- name: put
-- Makes a queue known, and pauses or resumes it. $1 name, $2 paused, or null to leave it.
insert into queue (namespace, name, paused) values (0, $1::text, coalesce($2::boolean, false))
on conflict (namespace, name) do update set paused = coalesce($2::boolean, queue.paused)

-- name: limit
-- Sets a queue's limit by an operator's word. $1 name, $2 maximum. Call under `lock_lanes`.
insert into concurrency_limit (namespace, scope, name, maximum, source)
values (0, 'queue', $1, $2, 'operator')
on conflict (namespace, scope, name) do update set maximum = excluded.maximum, source = excluded.source

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
select id from lane where namespace = 0 and queue = $1

-- name: purge
-- Cancels tasks that wait in some lanes; returns their ids. What somebody else holds is left to him: it
-- is being assigned, promoted or cancelled. $1 lanes, $2 reason, $3 arrived until (what is delayed:
-- submitted until), $4 how many of each kind. Locks ready rows, then delayed rows, and waits for none.
with from_ready as (
  delete from ready where ctid = any (array(
    select ctid from ready where lane = any ($1::integer[]) and arrival <= $3::timestamptz
    limit $4::integer for update skip locked))
  returning task_id, run_number, attempt_number
), from_delayed as (
  delete from delayed where ctid = any (array(
    select ctid from delayed
    where lane = any ($1::integer[])
      and (select submitted_at from task where task.id = delayed.task_id) <= $3::timestamptz
    limit $4::integer for update skip locked))
  returning task_id, run_number, attempt_number
), dropped as materialized (
  select * from from_ready union all select * from from_delayed
), recorded as (
  insert into task_run (task_id, run_number, attempt_number, outcome, final, reason)
  select task_id, run_number, attempt_number, 5, true, $2::text from dropped order by task_id
)
select task_id from dropped

-- name: now
-- The database's time.
select now()
