-- name: tell
-- Stores how far runs are. Arrays in task id order: $1 task_id, $2 token, $3 done, $4 total or null, $5 text.
insert into run_progress (task_id, token, done, total, text)
select * from unnest($1::uuid[], $2::bigint[], $3::float8[], $4::float8[], $5::text[])
on conflict (task_id) do update
set token = excluded.token, done = excluded.done, total = excluded.total, text = excluded.text, updated_at = now()

-- name: tidy
-- Removes what was said by runs that have ended; no more than $1 at a time.
delete from run_progress where ctid = any (array(
  select p.ctid from run_progress p
  where (select true from lease l where l.task_id = p.task_id and l.token = p.token limit 1) is null
  limit $1::integer))
