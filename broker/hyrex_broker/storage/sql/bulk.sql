-- name: begin
-- Stores a bulk operation; nothing where its id is known. $1 id, $2 who, $3 action, $4 filter, $5 reason, $6 cursor.
insert into bulk_operation (id, namespace, who, action, filter, reason, cursor)
values ($1::uuid, 0, $2::text, $3::text, $4::jsonb, $5::text, $6::uuid)
on conflict (id) do nothing

-- name: find
-- One bulk operation. $1 id.
select * from bulk_operation where namespace = 0 and id = $1::uuid

-- name: page
-- Bulk operations that started before one, newest first. $1 time, $2 id, $3 how many.
select * from bulk_operation
where namespace = 0 and (started_at, id) < ($1::timestamptz, $2::uuid) and started_at <= $1
order by started_at desc, id desc limit $3::integer

-- name: stop
-- Stops a bulk operation that has not ended: the next transaction of whoever works on it changes nothing. $1 id.
update bulk_operation set state = 'stopped', ended_at = now() where namespace = 0 and id = $1::uuid and state = 'running'

-- name: take_up
-- Takes a running operation that nobody works on, the longest left alone first, and returns it; none whose filter says
-- what this broker does not know: it would act on more tasks. One that was seen in the future was left before the clock
-- was set back. $1 broker, $2 how long its broker must have been silent,
-- $3 the words that it knows.
update bulk_operation set owner = $1::bigint, seen_at = now()
where id = (
  select id from bulk_operation
  where state = 'running' and (owner is null or owner = $1 or seen_at not between now() - $2::interval and now() + $2)
    and not exists (select from jsonb_object_keys(filter) as word where word <> all ($3::text[]))
  order by seen_at limit 1
  for update skip locked
)
returning *

-- name: advance
-- What a transaction did, in that transaction; no row where the operation is another broker's by now, was stopped, or
-- is elsewhere: then the transaction must be rolled back. $1 id, $2 broker, $3 cursor before, $4 cursor now, $5 how many
-- more fitted, $6 how many more were acted on, $7 whether that was all.
update bulk_operation
set cursor = $4::uuid, matched = matched + $5::bigint, done = done + $6::bigint, seen_at = now(),
    state = case when $7::boolean then 'done' else state end, ended_at = case when $7 then now() end
where id = $1::uuid and owner = $2::bigint and state = 'running' and cursor = $3::uuid
returning id

-- name: forget
-- Removes operations that ended long ago. $1 how long.
delete from bulk_operation where ended_at < now() - $1::interval
