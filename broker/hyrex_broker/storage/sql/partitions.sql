-- name: tables
-- Tables of days by name: the partitions, those whose detach was interrupted half-way (`detaching`), and
-- those that were detached but not dropped (not `attached`).
select c.relname as name, i.inhrelid is not null as attached, coalesce(i.inhdetachpending, false) as detaching
from pg_class c left join pg_inherits i on i.inhrelid = c.oid
where c.relkind = 'r' and pg_table_is_visible(c.oid) and c.relname ~ '^task(_run)?_[0-9]{8}$'
order by c.relname

-- name: statistics
-- Tables of days of what brokers counted, by name, with their parents; those that were detached but not dropped too.
select c.relname as name, regexp_replace(c.relname, '_[0-9]{8}$', '') as parent
from pg_class c
where c.relkind = 'r' and pg_table_is_visible(c.oid) and c.relname ~ '^stat(_5min)?_[0-9]{8}$'
order by c.relname

-- name: lives
-- Whether a live row has an id in a range. $1 first id, $2 id after the last.
select exists (select from live where task_id >= $1 and task_id < $2)

-- name: holds_any
-- Whether a task in a range is stored. $1 first id, $2 id after the last.
select exists (select from task where id >= $1 and id < $2)

-- name: forget_keys
-- Deletes idempotency keys of tasks in a range of ids; returns the highest id met, null when none is left.
-- $1 first id, $2 id after the last, $3 how many. Waits for no row: who holds one replaces it (`submit_waiting`).
with gone as (
  delete from idempotency where ctid = any (array(
    select ctid from idempotency where task_id >= $1 and task_id < $2
    order by task_id limit $3::integer for update skip locked))
  returning task_id
)
select task_id from gone order by task_id desc limit 1

-- name: forget_debounce_keys
-- The same for debounce keys.
with gone as (
  delete from debounce where ctid = any (array(
    select ctid from debounce where task_id >= $1 and task_id < $2
    order by task_id limit $3::integer for update skip locked))
  returning task_id
)
select task_id from gone order by task_id desc limit 1

-- name: forget_reopenings
-- The same for what `reopen` remembers of them.
with gone as (
  delete from reopen where ctid = any (array(
    select ctid from reopen where task_id >= $1 and task_id < $2
    order by task_id limit $3::integer for update skip locked))
  returning task_id
)
select task_id from gone order by task_id desc limit 1

-- name: forget_dismissals
-- The same for dismissals.
with gone as (
  delete from dismissal where ctid = any (array(
    select ctid from dismissal where task_id >= $1 and task_id < $2
    order by task_id limit $3::integer for update skip locked))
  returning task_id
)
select task_id from gone order by task_id desc limit 1

-- name: make
-- Makes one day's partition of a parent, with the rights of its owner. $1 parent, $2 day.
select make_partition($1, $2)

-- name: lacks
-- Whether a parent has no partition of a day. $1 parent, $2 day.
select to_regclass($1::text || '_' || to_char($2::date, 'YYYYMMDD')) is null as lacks

-- name: is_mine
-- Whether this role owns a table, or is a member of the role that does. $1 table.
select pg_has_role(relowner, 'usage') from pg_class where oid = to_regclass($1)

-- name: remove
-- One step of removing a day's partition with the rights of its owner: detached (true), then dropped (false).
-- $1 parent, $2 day as YYYYMMDD.
select remove_partition($1, to_date($2, 'YYYYMMDD'))
