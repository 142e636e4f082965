-- name: tasks
-- Tasks as they stand: a row for each of their newest runs (one row where there is no run), by id and run number.
-- It is one statement, so it has one snapshot, in which state and runs agree. Unknown ids are missing. Laterals
-- with LIMIT make every lookup an index probe, whatever the statistics of the live tables say.
-- Payload, headers, trace context and labels are in a task's first row only. What is left out is told by its size.
-- $1 ids in order: the first and the last tell which partitions are looked at.
-- $2 true: with payload, headers and trace context. $3 largest result, in bytes. $4 how many runs. $5 largest traceback, in bytes.
-- $6 how many characters of an error's message. $7 largest labels, in bytes.
-- $8 bytes that results, tracebacks and messages of a task may have together, its newest runs first. The newest
-- run has what it has, and of the others comes at least the beginning of their message.
select t.id, l.queue, l.name, t.rank, t.max_retries, t.timeout_ms, t.parent_id, t.root_id, t.submitted_at,
       t.content_type, t.codec, t.idempotency_key, t.expires_at,
       case when coalesce(r.place, 1) = 1 and octet_length(t.labels::text) <= $7::integer then t.labels end as labels,
       case when octet_length(t.labels::text) > $7::integer then octet_length(t.labels::text) else 0 end
         as labels_left_out_bytes,
       case when $2::boolean and coalesce(r.place, 1) = 1 then t.payload end as payload,
       case when $2::boolean and coalesce(r.place, 1) = 1 then t.headers end as headers,
       case when $2::boolean and coalesce(r.place, 1) = 1 then t.trace_context end as trace_context,
       t.concurrency_key, t.max_per_key, t.fair_key, coalesce(t.kind = 2, false) as is_outside,
       t.workflow->>'node' as node, (t.workflow->>'nodes')::integer as workflow_nodes,
       coalesce(q.live, d.live, h.live, b.live) as live,
       coalesce(q.run_number, d.run_number, h.run_number, b.run_number) as live_run_number,
       h.attempt_number as live_attempt_number, d.run_at, h.assigned_at,
       coalesce(h.cancel_requested, b.cancel_requested) as cancel_requested, h.worker_name as live_worker,
       p.done, p.total, p.text as progress_text, p.updated_at as progress_at,
       r.run_number, r.attempt_number, r.outcome, r.started_at, r.finished_at, r.result_size_bytes, r.result,
       case when r.outcome in (3, 4, 6) then (
         select true from dismissal where task_id = i.id and dismissal.run_number = r.run_number limit 1) end as dismissed,
       r.content_type as result_content_type, r.error_type, r.error_place, r.error_message, r.traceback, r.text_left_out_bytes, r.reason,
       r.cause,
       w.worker_name as worker
from unnest($1::uuid[]) as i (id)
cross join lateral (
  select * from task
  where task.id = i.id and task.id between ($1::uuid[])[1] and ($1::uuid[])[cardinality($1::uuid[])] limit 1
) t
cross join lateral (select queue, name from lane where lane.id = t.lane limit 1) l
left join lateral (
  select 'ready' as live, run_number from ready where task_id = i.id limit 1
) q on true
left join lateral (
  select 'delayed' as live, run_number, run_at from delayed where task_id = i.id limit 1
) d on true
left join lateral (
  select 'lease' as live, token, run_number, attempt_number, assigned_at, cancel_at is not null as cancel_requested,
         (select worker_name from worker_session s where s.id = lease.session_id)
  from lease where task_id = i.id limit 1
) h on true
left join lateral (
  select 'blocked' as live, run_number, cancel_at is not null as cancel_requested from blocked where task_id = i.id limit 1
) b on true
left join lateral (
  select done, total, text, updated_at from run_progress
  where h.token is not null and task_id = i.id and token = h.token limit 1
) p on true
left join lateral (
  select run_number, attempt_number, outcome, session_id, started_at, finished_at,
         octet_length(result) as result_size_bytes,
         case when octet_length(result) <= $3::integer and fits then result end as result,
         content_type, error_type, error_place, reason, cause,
         left(error_message, case when fits then $6::integer else least($6::integer, 1000) end) as error_message,
         case when octet_length(traceback) <= $5::integer and fits then traceback end as traceback,
         case when octet_length(traceback) > $5::integer then octet_length(traceback) else 0 end
         + case when octet_length(error_message) > $6::integer then octet_length(error_message) else 0 end
           as text_left_out_bytes,
         row_number() over (order by run_number) as place
  from (
    select *, coalesce(sum(bytes) over newer <= $8::integer or row_number() over newer = 1, true) as fits
    from (
      select *, coalesce(octet_length(result), 0)::bigint + coalesce(octet_length(traceback), 0)
                + coalesce(octet_length(error_message), 0) as bytes
      from task_run
      where task_id = i.id and task_id between ($1::uuid[])[1] and ($1::uuid[])[cardinality($1::uuid[])]
      order by run_number desc limit $4::integer
    ) newest
    window newer as (order by run_number desc)
  ) newest
) r on true
left join lateral (
  select worker_name from worker_session s where s.id = r.session_id limit 1
) w on true
order by t.id, r.run_number

-- name: to_replay
-- What a task like this one needs. $1 id.
select l.name, l.queue, t.rank, t.max_retries, t.timeout_ms, t.retry_delay_ms, t.payload, t.content_type, t.codec,
       t.headers, t.labels, t.concurrency_key, t.max_per_key, t.fair_key,
       coalesce(t.kind = 2, false) as is_outside, t.workflow is not null as of_workflow
from task t join lane l on l.id = t.lane
where t.id = $1::uuid

-- name: times_of
-- What else decides when a task runs: its debounce key, until when that may move it, and its schedule with the next slot
-- (none where it is paused). $1 task, $2 its schedule.
select (select key from debounce where task_id = $1::uuid limit 1) as debounce_key,
       (select latest_at from debounce where task_id = $1::uuid limit 1) as latest_at,
       s.name as schedule, s.paused, s.next_at
from (values (1)) as one left join schedule s on s.namespace = 0 and s.name = $2::text

-- name: queues_of
-- The queues of tasks. $1 ids in order: the first and the last one tell which partitions are looked at.
select t.id, l.queue
from unnest($1::uuid[]) as i (id)
cross join lateral (
  select id, lane from task where id = i.id and id between ($1::uuid[])[1] and ($1::uuid[])[cardinality($1::uuid[])]
  limit 1
) t
join lane l on l.id = t.lane

-- name: run_conditions
-- What decides whether tasks of a lane can run. $1 queue, $2 task name.
-- Where there is no limit nobody asks how many run, and lanes may be many: then they are not counted.
select coalesce((select paused from queue where namespace = 0 and name = $1::text), false) as paused,
       (select maximum from concurrency_limit where namespace = 0 and scope = 'queue' and name = $1::text)
         as queue_limit,
       (select count(*) from lease
        where (select maximum is not null from concurrency_limit where namespace = 0 and scope = 'queue' and name = $1::text)
          and lane = any (array(select id from lane where namespace = 0 and queue = $1::text))) as queue_running,
       (select maximum from concurrency_limit where namespace = 0 and scope = 'task' and name = $2::text)
         as task_limit,
       (select count(*) from lease
        where (select maximum is not null from concurrency_limit where namespace = 0 and scope = 'task' and name = $2::text)
          and lane = any (array(select id from lane where namespace = 0 and name = $2::text))) as task_running,
       (select next_at from limit_rate where namespace = 0 and scope = 'queue' and name = $1::text and next_at > now())
         as queue_token_at,
       (select array[rate_count, rate_period_ms] from limit_rate where namespace = 0 and scope = 'queue' and name = $1::text)
         as queue_rate,
       (select array[rate_count, rate_period_ms] from limit_rate where namespace = 0 and scope = 'task' and name = $2::text)
         as task_rate,
       (select next_at from limit_rate where namespace = 0 and scope = 'task' and name = $2::text and next_at > now())
         as task_token_at

-- name: holders
-- Tasks that run in the lanes of a limit, the longest first. $1 scope, $2 name, $3 how many.
select l.task_id, n.name, n.queue, l.assigned_at,
       coalesce((select worker_name from worker_session s where s.id = l.session_id), '') as worker
from lease l
cross join lateral (select name, queue from lane where lane.id = l.lane limit 1) n
where l.lane = any (array(
  select id from lane where namespace = 0 and (($1::text = 'queue' and queue = $2) or ($1 = 'task' and name = $2))))
order by l.assigned_at, l.task_id
limit $3::integer

-- name: key_holders
-- Tasks that hold seats of the key that a task waits for, those that have had theirs longest first, with its key and
-- maximum. $1 task, $2 how many.
select s.task_id, n.name, n.queue, s.taken_at as assigned_at, coalesce(w.worker_name, '') as worker,
       t.concurrency_key, t.max_per_key
from task t
left join lateral (
  select task_id, taken_at, turn from holding where holding.key = t.key_hash order by turn, task_id limit $2::integer
) s on true
left join lateral (
  select worker_name from lease join worker_session on worker_session.id = lease.session_id
  where lease.task_id = s.task_id limit 1
) w on true
cross join lateral (select name, queue from lane where lane.id = t.lane limit 1) n
where t.id = $1::uuid and t.key_hash is not null
order by s.turn, s.task_id

-- name: services
-- The live sessions that take new work, folded by their patterns. $1 task name.
select queue_patterns, bool_or($1::text = any (task_names)) as knows_task
from worker_session
where ended_at is null and expires_at > now() and not draining
group by queue_patterns

-- name: lanes_of
-- Lanes of a queue, of a task name, or of both; null means any. $1 queue, $2 task name, $3 LIKE patterns of queues
-- of which one must fit, $4 the same of task names.
select id, queue from lane
where namespace = 0 and ($1::text is null or queue = $1) and ($2::text is null or name = $2)
  and ($3::text[] is null or queue like any ($3)) and ($4::text[] is null or name like any ($4))

-- name: first_id
-- The lowest id of all tasks; no row without tasks.
select id from task order by id limit 1

-- The scans below find candidates for a list, newest id first, among a bounded number of rows:
-- $1 ids below this one, $2 down to this one, $3 lanes or null, $4 rows to look at, $5 rows to return, $6 labels
-- that a task must have or null.
-- Each returns `id` of what fits, and in its last row `looked_at` rows and the lowest `id` of those.

-- part: fitting_tasks
-- Those of a portion of tasks (`looked`) that fit, and how far it reaches; the end of a statement.
fitting as (
  select id from looked
  where ($3::integer[] is null or lane = any ($3)) and ($6::jsonb is null or labels @> $6)
  order by id desc limit $5::integer
)
select id, null::bigint as looked_at from fitting
union all
select (select id from looked order by id limit 1), (select count(*) from looked)

-- name: scan_task
-- Candidates among all tasks.
with looked as materialized (
  select id, lane, labels from task where id < $1::uuid and id >= $2::uuid order by id desc limit $4::integer
),
-- use: fitting_tasks

-- name: scan_workflows
-- Candidates among roots of workflows.
with looked as materialized (
  select id, lane, labels from task
  where kind = 1 and id < $1::uuid and id >= $2::uuid order by id desc limit $4::integer
),
-- use: fitting_tasks

-- part: fitting_live
-- Those of a portion of what lives (`looked`) that fit, and how far it reaches; the end of a statement.
fitting as (
  select id from looked
  where ($3::integer[] is null or lane = any ($3))
    and ($6::jsonb is null or exists (select from task t where t.id = looked.id and t.id < $1::uuid and t.id >= $2::uuid
                                      and t.labels @> $6))
  order by id desc limit $5::integer
)
select id, null::bigint as looked_at from fitting
union all
select (select id from looked order by id limit 1), (select count(*) from looked)

-- name: scan_ready
-- Candidates among queued tasks.
with looked as materialized (
  select task_id as id, lane from ready where task_id < $1::uuid and task_id >= $2::uuid
  order by task_id desc limit $4::integer
),
-- use: fitting_live

-- name: scan_delayed
-- Candidates among scheduled and retrying tasks.
with looked as materialized (
  select task_id as id, lane from delayed where task_id < $1::uuid and task_id >= $2::uuid
  order by task_id desc limit $4::integer
),
-- use: fitting_live

-- name: scan_blocked
-- Candidates among blocked tasks.
with looked as materialized (
  select task_id as id, lane from blocked where task_id < $1::uuid and task_id >= $2::uuid
  order by task_id desc limit $4::integer
),
-- use: fitting_live

-- name: scan_lease
-- Candidates among running tasks.
with looked as materialized (
  select task_id as id, lane from lease where task_id < $1::uuid and task_id >= $2::uuid
  order by task_id desc limit $4::integer
),
-- use: fitting_live

-- name: scan_completed
-- Candidates among tasks with a completed run.
with looked as materialized (
  select task_id as id, outcome from task_run where task_id < $1::uuid and task_id >= $2::uuid
  order by task_id desc, run_number desc limit $4::integer
), fitting as (
  select distinct id from looked
  where outcome = 2
    and ($3::integer[] is null
         or exists (select from task t where t.id = looked.id and t.id < $1::uuid and t.id >= $2::uuid
                    and t.lane = any ($3)))
    and ($6::jsonb is null or exists (select from task t where t.id = looked.id and t.id < $1::uuid and t.id >= $2::uuid
                                      and t.labels @> $6))
  order by id desc limit $5::integer
)
select id, null::bigint as looked_at from fitting
union all
select (select id from looked order by id limit 1), (select count(*) from looked)

-- name: scan_bad_end
-- Candidates among tasks with a bad end (the partial index task_run_by_bad_end). $7 outcome,
-- $8 LIKE patterns of the error's type or null, $9 true: none that was dismissed.
with looked as materialized (
  select task_id as id, error_type, run_number from task_run
  where final and outcome <> 2 and outcome = $7::smallint and task_id < $1::uuid and task_id >= $2::uuid
  order by task_id desc limit $4::integer
), fitting as (
  select distinct id from looked
  where ($3::integer[] is null
         or exists (select from task t where t.id = looked.id and t.id < $1::uuid and t.id >= $2::uuid
                    and t.lane = any ($3)))
    and ($6::jsonb is null or exists (select from task t where t.id = looked.id and t.id < $1::uuid and t.id >= $2::uuid
                                      and t.labels @> $6))
    and ($8::text[] is null or error_type like any ($8))
    and (not $9::boolean
         or (select true from dismissal d where d.task_id = looked.id and d.run_number = looked.run_number limit 1) is null)
  order by id desc limit $5::integer
)
select id, null::bigint as looked_at from fitting
union all
select (select id from looked order by id limit 1), (select count(*) from looked)

-- name: scan_children
-- Candidates among a task's children (the index task_by_parent). $7 parent.
with looked as materialized (
  select id, lane, labels from task where parent_id = $7::uuid and id < $1::uuid and id >= $2::uuid
  order by id desc limit $4::integer
),
-- use: fitting_tasks

-- name: scan_tree
-- Candidates among the tasks below a root (the index task_by_root). $7 root.
with looked as materialized (
  select id, lane, labels from task where root_id = $7::uuid and id < $1::uuid and id >= $2::uuid
  order by id desc limit $4::integer
),
-- use: fitting_tasks

-- name: scan_labelled
-- All candidates in a range of ids by their labels, in no order (the partial index task_by_labels). Looks at up to $4:
-- where `looked_at` says as many, there may be more, and nothing is known of what is missing.
with looked as materialized (
  select id, lane from task where labels @> $6::jsonb and id < $1::uuid and id >= $2::uuid limit $4::integer
), fitting as (
  select id from looked where $3::integer[] is null or lane = any ($3) order by id desc limit $5::integer
)
select id, null::bigint as looked_at from fitting
union all
select null::uuid, (select count(*) from looked)
