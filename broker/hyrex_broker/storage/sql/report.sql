-- name: report_completed
-- `report` for runs that all completed, as most do: none of them runs again, and a cancel request changes nothing
-- any more. Returns the places of those that matched, by lane and session; null means all places.
-- Arrays in task id order: $1 task_id, $2 token, $3 elapsed_us (these three as text), $4 result,
-- $5 content_type, $6 session: of one entry if all share it.
-- Locks lease rows in task id order, and inserts in it: that of the arrays.
with mine as materialized (
  select r.task, r.token, r.elapsed_us, r.result, r.content_type, r.place, l.*
  from unnest(($1::text)::uuid[], ($2::text)::bigint[], ($3::text)::bigint[], $4::bytea[], $5::text[], $6::bigint[])
    with ordinality as r (task, token, elapsed_us, result, content_type, session, place)
  cross join lateral (
    select lease.ctid as spot, lane, session_id, run_number, attempt_number
    from lease where task_id = r.task and token = r.token
      -- Plus 0: no index by session may stand for that by task.
      and session_id + 0 = coalesce(r.session, ($6::bigint[])[1])
    for update
  ) l
), gone as (
  delete from lease where ctid = any (array(select spot from mine))
), recorded as (
  insert into task_run (task_id, run_number, attempt_number, outcome, final, token, session_id, started_at,
                        finished_at, result, content_type)
  select task, run_number, attempt_number, 2, true, token, session_id,
         now() - elapsed_us * interval '1 microsecond', now(), result, content_type
  from mine
)
select lane, session_id,
       case when count(*) < cardinality($4::bytea[]) then array_agg(place::integer) end as places
from mine group by lane, session_id

-- name: report
-- Ends leases whose token still matches: records the run, and repeats the task where that is due.
-- A run that is missing from the result matched no lease: see `classify_reports`. Reports, the sweeper and the
-- end of overdue runs all remove leases by this statement, so a cancel request is always obeyed. Runs that
-- completed go through `report_completed`.
-- Arrays in task id order: $1 task_id, $2 token (these two as text), $3 session and $4 outcome (of one entry if all
-- share it), $5 elapsed_us, $6 error_type, $7 error_message, $8 traceback, $9 reason, $10 retryable,
-- $11 retry_delay_ms, $12 alone; a null retryable is true, a null alone false. $13 bound of redeliveries,
-- $14 bound of releases. $15, $16 the first and the last task: they tell which partitions are looked at.
-- $17 cause, of those that are cancelled without anybody's asking, an array or null; $18 error_place, the same.
-- Locks lease rows in task id order.
with ended as materialized (
  select r.task, r.token, coalesce(r.outcome, ($4::smallint[])[1]) as outcome, r.elapsed_us, r.error_type,
         r.error_message, r.traceback, r.reason, coalesce(r.retryable, true) as retryable,
         r.retry_delay_ms, coalesce(r.was_alone, false) as was_alone, r.cause, r.error_place, r.place, l.*
  from unnest(($1::text)::uuid[], ($2::text)::bigint[], $3::bigint[], $4::smallint[], $5::bigint[], $6::text[],
              $7::text[], $8::text[], $9::text[], $10::boolean[], $11::bigint[], $12::boolean[], $17::smallint[], $18::text[])
    with ordinality
    as r (task, token, session, outcome, elapsed_us, error_type, error_message, traceback, reason, retryable,
          retry_delay_ms, was_alone, cause, error_place, place)
  cross join lateral (
    select lease.ctid as spot, lane, rank, session_id, run_number, attempt_number, redeliveries, releases,
           alone, cancel_at, cancel_reason
    from lease where task_id = r.task and token = r.token
      and session_id + 0 = coalesce(r.session, ($3::bigint[])[1])
    for update
  ) l
), gone as (
  delete from lease where ctid = any (array(select spot from ended))
), judged as materialized (
  select e.*,
         case
           when cancel_at is not null then 5::smallint
           when outcome = 7 and releases >= $14::integer then 6::smallint
           else outcome
         end as final_outcome,
         case
           when outcome = 5 or cancel_at is not null then false
           when outcome in (3, 4) then
             -- A task that is not stored cannot run again.
             retryable and attempt_number < coalesce((
               select t.max_retries from task t where t.id = e.task and t.id between $15::uuid and $16::uuid), 0)
           when outcome = 6 then redeliveries + (was_alone or alone)::integer <= $13::integer
           else releases < $14::integer
         end as again
  from ended e
), recorded as (
  insert into task_run (task_id, run_number, attempt_number, outcome, final, token, session_id, started_at,
                        finished_at, error_type, error_message, traceback, reason, cause, error_place)
  select task, run_number, attempt_number, final_outcome, not again, token, session_id,
         now() - elapsed_us * interval '1 microsecond', now(), error_type, error_message, traceback,
         case when final_outcome = 5 then coalesce(cancel_reason, reason) else reason end,
         case when cancel_at is null then cause end, error_place
  from judged
  -- A run that never began is given back without a trace.
  where not (outcome = 7 and again and elapsed_us is null)
  order by task
), next as materialized (
  select task, lane, rank, again, outcome,
         run_number + (outcome <> 7 or elapsed_us is not null)::integer as run_number,
         attempt_number + (outcome in (3, 4))::integer as attempt_number,
         redeliveries + (outcome = 6 and (was_alone or alone))::integer as redeliveries,
         case when outcome = 7 then releases + 1 else 0 end as releases,
         alone or outcome = 6 as alone,
         case
           when outcome in (3, 4) then coalesce(
             retry_delay_ms,
             (select t.retry_delay_ms from task t where t.id = judged.task and t.id between $15::uuid and $16::uuid),
             (least(2 ^ least(attempt_number, 20), 300) * 1000 * (0.8 + 0.4 * random()))::bigint)
           when outcome = 6 and (was_alone or alone) then (array[0, 1000, 5000, 30000])[least(redeliveries + 1, 4)]
           when outcome = 7 then coalesce(retry_delay_ms, 0)
           else 0
         end as delay_ms
  from judged where again
), queued as (
  insert into ready (task_id, lane, rank, arrival, run_number, attempt_number, redeliveries, releases, alone)
  select task, lane, rank, now(), run_number, attempt_number, redeliveries, releases, alone
  from next where delay_ms <= 0 order by task
), waiting as (
  insert into delayed (task_id, lane, rank, run_at, run_number, attempt_number, redeliveries, releases, alone)
  select task, lane, rank, now() + delay_ms * interval '1 millisecond', run_number, attempt_number,
         redeliveries, releases, alone
  from next where delay_ms > 0 order by task
)
select j.lane, j.session_id, array_agg(j.place::integer) as places, j.rank, j.again, n.delay_ms, j.final_outcome
from judged j left join next n on n.task = j.task
group by j.lane, j.session_id, j.rank, j.again, n.delay_ms, j.final_outcome

-- name: classify_reports
-- What became of reports that matched no lease: `recorded` when a run bears the token, `held` when a
-- lease does (the report lost a race and must be repeated), each of the session that reported it.
-- $1 task_id, $2 token, $3 session: arrays of the same length. One row for each, in order.
-- $4, $5 the lowest and the highest task: they tell which partitions are looked at.
-- Scalar subqueries: an EXISTS here may become a hash of the whole table.
select (select true from task_run t
        where t.task_id = r.task and t.task_id between $4::uuid and $5::uuid and t.token = r.token
          and t.session_id = r.session limit 1) is not null as recorded,
       (select true from lease l where l.task_id = r.task and l.token = r.token
          and l.session_id + 0 = r.session limit 1) is not null as held
from unnest($1::uuid[], $2::bigint[], $3::bigint[]) with ordinality as r (task, token, session, place)
order by r.place

-- name: overdue
-- Leases of some sessions that should have ended by now: their worker obeyed neither their timeout nor a cancel.
-- With each: since when it counts (Unix seconds) and how long it was allowed, since the clock may have jumped
-- meanwhile. The first row has the database's time only.
-- $1 sessions, $2 how many of each kind, $3 how long a cancel may take, in ms, $4 low-water mark: what was overdue
-- before it is not looked at, so the dead rows there are not read either.
(select now() as now, null::uuid as task_id, null::bigint as token, null::bigint as session_id,
        null::float8 as since_s, null::float8 as allowed_s)
union all
(select null, task_id, token, session_id, extract(epoch from assigned_at)::float8,
        extract(epoch from deadline - assigned_at)::float8 from lease
 where deadline < now() and deadline >= $4::timestamptz and session_id = any ($1::bigint[])
 order by deadline limit $2::integer)
union all
(select null, task_id, token, session_id, extract(epoch from cancel_at)::float8, $3::bigint / 1000.0::float8
 from lease
 where cancel_at < now() - $3::bigint * interval '1 millisecond'
   and cancel_at >= $4::timestamptz - $3::bigint * interval '1 millisecond' and session_id = any ($1::bigint[])
 limit $2::integer)

-- name: leases_of
-- Every lease of some sessions, in task id order: all statements lock leases in that order. $1 sessions.
-- They are found first and sorted then: otherwise the planner may read all leases in the order of their ids.
with found as materialized (
  select task_id, token, session_id, sequence, lane, cancel_at is not null as to_cancel, cancel_reason
  from lease where session_id = any ($1::bigint[])
)
select * from found order by task_id
