-- Compacts days past their term (storage/compaction.py); what needs the tables' owner is in migrations/0001_first.sql.

-- name: looked_at
-- Days at which retention has looked within a day.
select day from compaction where looked_at > now() - interval '1 day'

-- name: note
-- Retention has looked at a day, and copied it or not. $1 day, $2 whether it has.
insert into compaction (day, copied_at) values ($1, case when $2::boolean then now() end) on conflict (day) do update
set looked_at = excluded.looked_at, copied_at = coalesce(excluded.copied_at, compaction.copied_at)

-- name: is_due
-- Whether a day's last copy is so long ago that few tasks are worth another one. $1 day, $2 how long.
select coalesce((select copied_at < now() - $2::interval from compaction where day = $1), true)

-- name: shortest_term
-- The shortest term that a queue has of its own, in days; null where none has one.
select min(least(retention_days, dead_letter_days)) from queue

-- name: forget
-- Forgets days that are gone.
delete from compaction where to_regclass('task_' || to_char(day, 'YYYYMMDD')) is null

-- name: living_roots
-- The roots of the trees of a portion of what lives, and the portion's last id (null at the end). $1 ids above this one,
-- $2 how many.
with page as materialized (
  select task_id from live where task_id > $1 order by task_id limit $2::integer
)
select (select task_id from page order by task_id desc limit 1) as last,
       array(select distinct t.root_id from page join task t on t.id = page.task_id where t.root_id is not null) as roots

-- name: look
-- How many tasks a portion of a day has, how many of them are kept, and how many go by their queue's term alone; and its
-- last id, null at the end. $1 to $7 as in `survivors`.
with page as materialized (
  select id, kept, own from survivors($1, $2, $3, $4, $5, $6, $7)
)
select count(*) as seen, count(*) filter (where kept) as kept, count(*) filter (where own) as own,
       (select id from page order by id desc limit 1) as last
from page

-- name: living
-- How many tasks in a range live. $1 first id, $2 id after the last, $3 the most to count.
select count(*) from (select from live where task_id >= $1 and task_id < $2 limit $3::bigint) l

-- name: abandon
-- Removes what interrupted compactions have left behind.
select abandon_compactions()

-- name: begin
-- Makes the tables for what is kept of a day, and notes what lives. $1 day.
select begin_compaction($1)

-- name: copy
-- Copies what is kept of a portion; returns its last id, null at the end. $1 to $7 as in `survivors`.
select copy_survivors($1, $2, $3, $4, $5, $6, $7)

-- name: swap
-- Puts what is kept in the place of a day's tables, at once; returns how many tasks have moved since. $1 day.
select swap_compacted($1)

-- name: forget_keys
-- Deletes idempotency keys of tasks that are gone; returns the highest id met, null when none is left. Waits for no row:
-- who holds one replaces it (sql/submit.sql). $1 first id, $2 id after the last, $3 how many.
with gone as (
  delete from idempotency where ctid = any (array(
    select ctid from idempotency
    where task_id >= $1 and task_id < $2
      and (select true from task where id = idempotency.task_id and id >= $1 and id < $2 limit 1) is null
    order by task_id limit $3::integer for update skip locked))
  returning task_id
)
select task_id from gone order by task_id desc limit 1

-- name: forget_debounce_keys
-- The same for debounce keys. Who sends a key holds its row, and gives it a task that is there.
with gone as (
  delete from debounce where ctid = any (array(
    select ctid from debounce
    where task_id >= $1 and task_id < $2
      and (select true from task where id = debounce.task_id and id >= $1 and id < $2 limit 1) is null
    order by task_id limit $3::integer for update skip locked))
  returning task_id
)
select task_id from gone order by task_id desc limit 1

-- name: forget_reopenings
-- The same for what is remembered of reopened ends.
with gone as (
  delete from reopen where ctid = any (array(
    select ctid from reopen
    where task_id >= $1 and task_id < $2
      and (select true from task where id = reopen.task_id and id >= $1 and id < $2 limit 1) is null
    order by task_id limit $3::integer for update skip locked))
  returning task_id
)
select task_id from gone order by task_id desc limit 1

-- name: forget_dismissals
-- The same for dismissals.
with gone as (
  delete from dismissal where ctid = any (array(
    select ctid from dismissal
    where task_id >= $1 and task_id < $2
      and (select true from task where id = dismissal.task_id and id >= $1 and id < $2 limit 1) is null
    order by task_id limit $3::integer for update skip locked))
  returning task_id
)
select task_id from gone order by task_id desc limit 1
