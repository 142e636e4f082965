-- name: all
-- Every token, those included that have ended: a broker remembers that it refused them.
select id, name, hash, scopes, queue_patterns, revoked_at is not null as revoked,
       extract(epoch from expires_at - now())::float8 as lasts_s
from token

-- name: changed
-- Tokens made or revoked lately (the index token_by_change): what a broker reads every two seconds. $1 seconds.
select id, name, hash, scopes, queue_patterns, revoked_at is not null as revoked,
       extract(epoch from expires_at - now())::float8 as lasts_s
from token where changed_at > now() - make_interval(secs => $1::float8)

-- name: give_up_name
-- Revokes a token that has expired, so that another may have its name. $1 name.
update token set revoked_at = now(), changed_at = now()
where name = $1::text and revoked_at is null and expires_at <= now()

-- name: create
-- Stores a token; returns no row where one that is not revoked has the name. $1 name, $2 hash, $3 ending,
-- $4 scopes, $5 patterns, $6 when it ends, or null.
insert into token (name, hash, ending, scopes, queue_patterns, expires_at)
values ($1::text, $2::bytea, $3::text, $4::text[], $5::text[], $6::timestamptz)
on conflict (name) where revoked_at is null do nothing
returning id, name, ending, scopes, queue_patterns, created_at, expires_at, revoked_at

-- name: find
-- The token of a name that is not revoked. $1 name.
select id, name, ending, scopes, queue_patterns, created_at, expires_at, revoked_at
from token where name = $1::text and revoked_at is null

-- name: page
-- Tokens by name and age. $1 names from this one on, $2 of this name: younger than this one, $3 how many, $4 whether
-- those that have ended are wanted too.
select id, name, ending, scopes, queue_patterns, created_at, expires_at, revoked_at
from token
where (name, id) > ($1::text, $2::bigint)
  and ($4::boolean or (revoked_at is null and (expires_at is null or expires_at > now())))
order by name, id limit $3::integer

-- name: revoke
-- Revokes a token; returns no row where it is revoked already. $1 id.
update token set revoked_at = now(), changed_at = now() where id = $1::bigint and revoked_at is null
returning id, name, ending, scopes, queue_patterns, created_at, expires_at, revoked_at

-- name: forget
-- Removes tokens that ended long ago. $1 how long.
delete from token where least(revoked_at, expires_at) < now() - $1::interval
