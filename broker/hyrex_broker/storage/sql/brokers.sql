-- name: register
-- A new broker. $1 name, $2 address, $3 version.
insert into broker (name, address, version) values ($1, $2, $3) returning id

-- name: moved
-- The address that this broker was given, where it had asked for any. $1 id, $2 address.
update broker set address = $2 where id = $1

-- name: seen
-- This broker lives. $1 id, $2 whether clients watch tasks here. Returns the others seen lately and
-- whether any of them watches.
with me as (update broker set seen_at = now(), watching = $2 where id = $1)
select count(*)::integer as others, coalesce(bool_or(watching), false) as watching
from broker where id <> $1 and seen_at > now() - interval '10 seconds'

-- name: unregister
-- This broker has stopped: it is not seen any more. $1 id.
update broker set seen_at = 'epoch' where id = $1
