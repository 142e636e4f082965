-- name: register
-- A new broker. $1 name, $2 address, $3 version, $4 whether it shows metrics, $5 the newest schema that it knows,
-- $6 its features, $7 whether it takes the rows of an outbox in another database.
insert into broker (name, address, version, observes, knows, features, carries)
values ($1, $2, $3, $4, $5, $6, $7) returning id

-- name: lock_features
-- Nobody uses a feature for the first time, and no broker begins, until the transaction ends. Each sees then what the
-- other has stored.
lock table used_feature in share row exclusive mode

-- name: unknown_features
-- Features that were used here and that a broker does not know. $1 its features.
select name from used_feature where name <> all ($1::text[]) order by name

-- name: older
-- Other brokers that live and lack some of these features. $1 features, $2 this broker.
select name, version, features from broker
where id <> $2 and seen_at > now() - interval '10 seconds' and not features @> $1::text[]
order by id

-- name: use_features
-- These are used from now on. $1 features.
insert into used_feature (name) select unnest($1::text[]) order by 1 on conflict do nothing

-- name: reads_depths
-- Whether this broker reads for all how much waits in each queue: the oldest one alive that shows metrics does.
-- One that was seen in the future is gone, and the clock was set back since. $1 id.
select coalesce(min(id) = $1, false) as elected from broker
where observes and seen_at between now() - interval '10 seconds' and now() + interval '10 seconds'

-- name: moved
-- The address that this broker was given, where it had asked for any. $1 id, $2 address.
update broker set address = $2 where id = $1

-- name: seen
-- This broker lives. $1 id, $2 whether clients watch tasks here. Returns the others seen lately, whether any of
-- them watches, whether a commit waits for a standby (a reload changes that at any time), whether this broker's own
-- row is there, and to what time it was renewed. `serves_from`: the schema that a broker must know to be served by
-- this database; `knows`: the newest that this broker knows, by its row. `older`: name, version and features of others
-- that lack some of this one's, as JSON; null where there are none, as nearly always. `unknown`: features that are used
-- here and that this one lacks. `carrying`: the others that take the rows of an outbox in another database.
-- $3 this one's features.
with me as (update broker set seen_at = now(), watching = $2 where id = $1 returning knows, seen_at)
select count(*)::integer as others, coalesce(bool_or(watching), false) as watching,
  current_setting('synchronous_standby_names') <> ''
    and current_setting('synchronous_commit') not in ('off', 'local') as synchronous,
  exists (select from me) as known, (select seen_at from me) as seen_at,
  (select coalesce(max(serves_from), 0) from schema_version) as serves_from,
  (select knows from me) as knows,
  (select array_agg(name order by name) from used_feature where name <> all ($3::text[])) as unknown,
  jsonb_agg(jsonb_build_array(name, version, features)) filter (where not features @> $3::text[]) as older,
  array_agg(name order by name) filter (where carries) as carrying
from broker where id <> $1 and seen_at > now() - interval '10 seconds'

-- name: seen_at
-- When a broker's row was renewed last. $1 id.
select seen_at from broker where id = $1

-- name: unregister
-- This broker has stopped: it is not seen any more. $1 id.
update broker set seen_at = 'epoch' where id = $1

-- name: trial
-- Stores a task in the tables that work goes through. It is rolled back: what refused work refuses this, a full
-- disk among it, so $1 is a payload that needs room of its own.
with made as materialized (
  select (lpad(to_hex((extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0') || '7'
          || substr(md5(random()::text), 1, 3) || '8' || substr(md5(random()::text), 1, 15))::uuid as id
), task as (
  insert into task (id, lane, rank, max_retries, digest, payload) select id, 0, 0, 0, 0, $1::bytea from made
), task_run as (
  insert into task_run (task_id, run_number, attempt_number, outcome, final) select id, 0, 0, 2, true from made
), ready as (
  insert into ready (task_id, lane, rank, arrival, run_number, attempt_number, redeliveries, releases, alone)
  select id, 0, 0, now(), 0, 0, 0, 0, false from made
), delayed as (
  insert into delayed (task_id, lane, rank, run_at, run_number, attempt_number, redeliveries, releases, alone)
  select id, 0, 0, now(), 0, 0, 0, 0, false from made
)
insert into lease (task_id, lane, rank, token, session_id, sequence, assigned_at,
                   run_number, attempt_number, redeliveries, releases, alone)
select id, 0, 0, 0, 0, 0, now(), 0, 0, 0, 0, false from made

-- name: trial_removes
-- Removes nothing, with the rights that it takes.
with r as (delete from ready where false), d as (delete from delayed where false)
delete from lease where false
