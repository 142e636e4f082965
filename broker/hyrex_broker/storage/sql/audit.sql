-- name: record
-- Stores entries. $1 who, $2 action, $3 object, $4 details: one entry at each place.
insert into audit (who, action, object, details)
select who, action, object, details::jsonb
from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as entry (who, action, object, details)

-- name: page
-- Entries, newest first. $1 ids below this one, $2 only by this caller, or null, $3 how many.
select id, at, who, action, object, details from audit
where id < $1::bigint and ($2::text is null or who = $2) order by id desc limit $3::integer

-- name: forget
-- Removes the oldest entries of days that are over, at most $2; returns how many. $1 for how long they are kept.
with old as (
  delete from audit where id = any (array(
    select id from audit where at < date_trunc('day', now()) - $1::interval order by at limit $2::integer))
  returning 1
)
select count(*) from old
