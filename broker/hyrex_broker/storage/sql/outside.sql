-- Calls from outside, which end tasks that no worker runs.

-- name: complete
-- Ends tasks that wait for a call from outside, unless their time is over. Ids missing from the result matched nothing: see
-- `standing` (cancel.sql). $1 ids, in order, as in `tasks` (reads.sql); $2 outcome, $3 result, $4 its content type, $5 the
-- error's type, $6 its message, $7 its traceback, $8 reason. Locks rows of `blocked` in id order.
with ended as (
  delete from blocked where ctid = any (array(
    select ctid from blocked
    where task_id = any ($1::uuid[]) and kind = 2
      and coalesce((select expires_at > now() from task
                    where task.id = blocked.task_id
                      and task.id between ($1::uuid[])[1] and ($1::uuid[])[cardinality($1::uuid[])] limit 1), true)
    order by task_id for update))
  returning task_id, lane, run_number, attempt_number
), recorded as (
  insert into task_run (task_id, run_number, attempt_number, outcome, final, result, content_type, error_type,
                        error_message, traceback, reason)
  select task_id, run_number, attempt_number, $2::smallint, true, $3::bytea, $4::text, $5::text, $6::text, $7::text, $8::text
  from ended order by task_id
)
select task_id, lane from ended
