-- name: tables
-- Tables of days by name: the partitions, those whose detach was interrupted half-way (`detaching`), and
-- those that were detached but not dropped (not `attached`).
select c.relname as name, i.inhrelid is not null as attached, coalesce(i.inhdetachpending, false) as detaching
from pg_class c left join pg_inherits i on i.inhrelid = c.oid
where c.relkind = 'r' and pg_table_is_visible(c.oid) and c.relname ~ '^task(_run)?_[0-9]{8}$'
order by c.relname

-- name: lives
-- Whether a live row has an id in a range. $1 first id, $2 id after the last.
select exists (select from ready where task_id >= $1 and task_id < $2)
    or exists (select from delayed where task_id >= $1 and task_id < $2)
    or exists (select from lease where task_id >= $1 and task_id < $2)
