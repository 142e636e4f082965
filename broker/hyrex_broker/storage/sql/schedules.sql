-- name: due
-- Schedules that are due, the longest due first, with the size of a task and the database's time. $1 how many.
-- $2 names that are left out, $3 low-water mark: each slot leaves a dead entry at the head of the index.
select name, revision, queue, task, cron, tz, catchup, jitter_s, next_at, now() as now,
       octet_length(payload) + octet_length(options::text) as size_bytes,
       options->>'concurrency_key' as concurrency_key, options->>'fair_key' as fair_key
from schedule where not paused and due_at >= $3::timestamptz and due_at <= now() and name <> all ($2::text[])
order by due_at limit $1::integer

-- name: next_due
-- Seconds until the next schedule is due (null: there is none), and the database's time. $1 names that are left out, $2 low-water
-- mark.
select extract(epoch from (
         select due_at from schedule where not paused and due_at >= $2::timestamptz and name <> all ($1::text[])
         order by due_at limit 1) - now())::float8
         as wait_s,
       now() as now

-- name: due_below
-- The first schedule that is due below a low-water mark, where there is one: put there by hand, or late. $1 mark.
select due_at from schedule where not paused and due_at < $1::timestamptz order by due_at limit 1

-- part: moved_on
-- What was stored is ready, or blocked until it is followed, for its key.
expiring as (
  insert into expiry (look_at, task_id, expires_at)
  select expires_at, id, expires_at from stored where expires_at is not null order by id
), queued as (
  insert into ready (task_id, lane, rank, arrival, run_number, attempt_number, redeliveries, releases, alone)
  select id, lane, rank, now(), 0, 0, 0, 0, false from stored where key_hash is null
), waiting as (
  insert into blocked (task_id, lane, rank, drops, run_number, attempt_number, redeliveries, releases, alone)
  select s.id, s.lane, s.rank, coalesce((i.options->>'refuses_to_wait')::boolean, false), 0, 0, 0, 0, false
  from stored s join item i on i.task_id = s.id where s.key_hash is not null order by s.id
)

-- name: fire
-- Stores the tasks of slots and moves their schedules on, in one statement: so a slot is stored once or not at all,
-- whenever a broker is killed, and no ready row is older than a statement may take (rule 25). Nothing of a schedule that
-- another broker has locked or moved, or that was edited or paused since this one looked. Locks schedules, then slots,
-- by name. Returns the stored slots.
-- $1 name, $2 revision, $3 slot that was next, $4 slot that is next now, $5 when that one is due: arrays by name.
-- $6 name, $7 slot, $8 task id, $9 lane, $10 cause, $11 hash of the concurrency key or null: arrays of the slots, by name
-- and slot. A task with such a key is blocked until it is followed.
with taken as materialized (
  select s.*, w.new_next_at, w.new_due_at
  from unnest($1::text[], $2::integer[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[])
    as w (wanted, wanted_revision, old_next_at, new_next_at, new_due_at)
  cross join lateral (
    select name, payload, options from schedule
    where namespace = 0 and name = w.wanted and revision = w.wanted_revision and next_at = w.old_next_at and not paused
    for no key update skip locked
  ) s
), item as materialized (
  select i.*, t.payload, t.options
  from unnest($6::text[], $7::timestamptz[], $8::uuid[], $9::integer[], $10::text[], $11::bigint[])
    as i (name, slot, task_id, lane, cause, key_hash)
  join taken t on t.name = i.name
), fired as (
  insert into schedule_slot (namespace, schedule, slot, task_id, cause)
  select 0, name, slot, task_id, cause from item order by name, slot
  on conflict (namespace, schedule, slot) do nothing
  returning schedule, slot, task_id
), stored as (
  insert into task (id, lane, rank, max_retries, timeout_ms, retry_delay_ms, digest, payload,
                    content_type, codec, headers, labels, expires_at, concurrency_key, key_hash, max_per_key, fair_key)
  select i.task_id, i.lane, (i.options->>'rank')::smallint, (i.options->>'max_retries')::integer,
         (i.options->>'timeout_ms')::bigint, (i.options->>'retry_delay_ms')::bigint, 0, i.payload,
         i.options->>'content_type', i.options->>'codec',
         coalesce(i.options->'headers', '{}')
           || jsonb_build_object('hyrex-scheduled-for', to_char(i.slot at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')),
         coalesce(i.options->'labels', '{}') || jsonb_build_object('hyrex.schedule', i.name),
         now() + (i.options->>'expires_in_ms')::bigint * interval '1 millisecond',
         i.options->>'concurrency_key', i.key_hash,
         case when i.key_hash is not null then coalesce((i.options->>'max_per_key')::integer, 1) end, i.options->>'fair_key'
  from item i where (select lanes_usable($9::integer[])) and i.task_id = any (array(select task_id from fired)) order by i.task_id
  returning id, lane, rank, expires_at, key_hash
),
-- use: moved_on
, moved as (
  update schedule s
  set next_at = t.new_next_at, due_at = greatest(t.new_due_at, now()),
      last_slot = coalesce((select max(slot) from fired where schedule = t.name), s.last_slot),
      last_task_id = coalesce((select task_id from fired where schedule = t.name order by slot desc limit 1),
                              s.last_task_id)
  from taken t where s.namespace = 0 and s.name = t.name
)
select f.schedule, f.slot, s.id as task_id, s.lane, s.rank, s.key_hash is not null as blocked
from fired f join stored s on s.id = f.task_id

-- name: fire_extra
-- `fire` for slots that somebody asks for, whenever the schedule is due next: a trigger, or a backfill. It waits for
-- nobody who fires, and nobody waits for it. A slot that was stored before is left out.
-- Nothing of a schedule whose tasks are others now.
-- $1 name, $2 slots, $3 task ids, $4 lane, $5 cause, $6 queue, $7 task, $8 concurrency key and $9 fair key or null, $10 hash
-- of the concurrency key or null.
with taken as materialized (
  select name, payload, options from schedule
  where namespace = 0 and name = $1::text and queue = $6::text and task = $7::text
    and options->>'concurrency_key' is not distinct from $8::text and options->>'fair_key' is not distinct from $9::text
  for key share
), item as materialized (
  select i.slot, i.task_id, t.name, t.payload, t.options, $10::bigint as key_hash
  from unnest($2::timestamptz[], $3::uuid[]) as i (slot, task_id) cross join taken t
), fired as (
  insert into schedule_slot (namespace, schedule, slot, task_id, cause)
  select 0, name, slot, task_id, $5::text from item order by slot
  on conflict (namespace, schedule, slot) do nothing
  returning schedule, slot, task_id
), stored as (
  insert into task (id, lane, rank, max_retries, timeout_ms, retry_delay_ms, digest, payload,
                    content_type, codec, headers, labels, expires_at, concurrency_key, key_hash, max_per_key, fair_key)
  select i.task_id, $4::integer, (i.options->>'rank')::smallint, (i.options->>'max_retries')::integer,
         (i.options->>'timeout_ms')::bigint, (i.options->>'retry_delay_ms')::bigint, 0, i.payload,
         i.options->>'content_type', i.options->>'codec',
         coalesce(i.options->'headers', '{}')
           || jsonb_build_object('hyrex-scheduled-for', to_char(i.slot at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')),
         coalesce(i.options->'labels', '{}') || jsonb_build_object('hyrex.schedule', i.name),
         now() + (i.options->>'expires_in_ms')::bigint * interval '1 millisecond',
         i.options->>'concurrency_key', i.key_hash,
         case when i.key_hash is not null then coalesce((i.options->>'max_per_key')::integer, 1) end, i.options->>'fair_key'
  from item i where (select lanes_usable(array[$4::integer])) and i.task_id = any (array(select task_id from fired)) order by i.task_id
  returning id, lane, rank, expires_at, key_hash
),
-- use: moved_on
select f.schedule, f.slot, s.id as task_id, s.lane, s.rank, s.key_hash is not null as blocked
from fired f join stored s on s.id = f.task_id

-- name: put_off
-- Looks at schedules again later: their queue is full, or they cannot be read. Nothing of one that has moved.
-- $1 name, $2 slot that is next: arrays; $3 how long.
update schedule s set due_at = now() + $3::interval
from unnest($1::text[], $2::timestamptz[]) as w (name, next_at)
where s.namespace = 0 and s.name = w.name and s.next_at = w.next_at

-- name: put
-- Stores a schedule. One that exists is changed, but not by code where an operator wrote it, and not where it says the
-- same; its pause stays. With a new expression or zone it waits for the first slot from now on. Returns its name where
-- something changed.
-- $1 name, $2 task, $3 queue, $4 cron, $5 tz, $6 payload, $7 options, $8 catchup, $9 jitter_s, $10 paused, $11 source,
-- $12 next slot, $13 when that is due, $14 the queue that was seen: nothing of a schedule that is elsewhere now.
insert into schedule as s (namespace, name, task, queue, cron, tz, payload, options, catchup, jitter_s, paused, source,
                           next_at, due_at)
values (0, $1::text, $2::text, $3::text, $4::text, $5::text, $6::bytea, $7::jsonb, $8::text, $9::integer,
        $10::boolean, $11::text, $12::timestamptz, $13::timestamptz)
on conflict (namespace, name) do update
set task = excluded.task, queue = excluded.queue, cron = excluded.cron, tz = excluded.tz, payload = excluded.payload,
    options = excluded.options, catchup = excluded.catchup, jitter_s = excluded.jitter_s, source = excluded.source,
    next_at = case when (s.cron, s.tz) = (excluded.cron, excluded.tz) then s.next_at else excluded.next_at end,
    due_at = case when (s.cron, s.tz) = (excluded.cron, excluded.tz) then s.due_at else excluded.due_at end,
    revision = s.revision + 1, updated_at = now()
where s.queue = $14::text and (s.source = 'code' or excluded.source = 'operator')
  and (s.task, s.queue, s.cron, s.tz, s.payload, s.options, s.catchup, s.jitter_s, s.source)
      is distinct from (excluded.task, excluded.queue, excluded.cron, excluded.tz, excluded.payload, excluded.options,
                        excluded.catchup, excluded.jitter_s, excluded.source)
returning s.name

-- name: find
-- One schedule, with the database's time. $1 name.
select *, now() as now from schedule where namespace = 0 and name = $1::text

-- name: known
-- Schedules by name, without payloads: the hash of one that is as long as the other. $1 names, $2 lengths.
select s.name, task, queue, cron, tz, ''::bytea as payload, options, catchup, jitter_s, paused, source, next_at,
       last_slot, last_task_id, revision, case when octet_length(payload) = w.size then sha256(payload) end as digest
from unnest($1::text[], $2::integer[]) as w (name, size)
join schedule s on s.namespace = 0 and s.name = w.name

-- name: standing
-- The queue of a schedule, if there is one, and the database's time. $1 name.
select now() as now, (select queue from schedule where namespace = 0 and name = $1::text) as queue

-- name: page
-- Schedules by name, without payloads. $1 the name before, $2 how many.
select name, task, queue, cron, tz, ''::bytea as payload, options, catchup, jitter_s, paused, source, next_at,
       last_slot, last_task_id, revision, now() as now
from schedule where namespace = 0 and name > $1::text order by name limit $2::integer

-- name: now
-- The database's time.
select now() as now

-- name: pause
-- Pauses a schedule, if it is as it was seen. $1 name, $2 its revision.
update schedule set paused = true, revision = revision + 1, updated_at = now()
where namespace = 0 and name = $1::text and revision = $2::integer and not paused
returning name

-- name: resume
-- Lets a paused schedule go on with its next slot, if it is as it was seen; what passed meanwhile is not made up for.
-- $1 name, $2 its revision, $3 next slot, $4 when that is due.
update schedule set paused = false, next_at = $3::timestamptz, due_at = $4::timestamptz, revision = revision + 1,
                    updated_at = now()
where namespace = 0 and name = $1::text and revision = $2::integer and paused
returning name

-- name: delete
-- Removes a schedule, if it is as it was seen; what was stored for it stays. $1 name, $2 its revision.
delete from schedule where namespace = 0 and name = $1::text and revision = $2::integer returning name

-- name: last_slots
-- The last slots of a schedule for which tasks were stored, the latest first. $1 name, $2 how many.
select slot, task_id, cause, stored_at from schedule_slot
where namespace = 0 and schedule = $1::text order by slot desc limit $2::integer

-- name: stored_slots
-- Which of these slots of a schedule have their task, and which. $1 name, $2 slots.
select slot, task_id, cause, stored_at from schedule_slot
where namespace = 0 and schedule = $1::text and slot = any ($2::timestamptz[])

-- name: slot_of
-- Whether a task was stored for a schedule. $1 name, $2 task id.
select slot from schedule_slot where task_id = $2::uuid and namespace = 0 and schedule = $1::text

-- name: forgotten_through
-- The last slot of a schedule of which it may be forgotten that it had its task. $1 name.
select through as forgotten_through from forgotten_slots where namespace = 0 and schedule = $1::text

-- name: forget
-- Removes what is known of slots that were stored long ago, and notes how far they went, also of schedules that are
-- gone. $1 how long, $2 how many at a time. Returns how many went.
with gone as (
  delete from schedule_slot where ctid = any (array(
    select ctid from schedule_slot where stored_at < now() - $1::interval limit $2::integer))
  returning schedule, slot
), noted as (
  insert into forgotten_slots as f (namespace, schedule, through)
  select 0, schedule, max(slot) from gone group by schedule order by schedule
  on conflict (namespace, schedule) do update set through = greatest(f.through, excluded.through), left_at = null
)
select count(*)::integer from gone

-- name: forget_names
-- Removes what `forget` noted of schedules that have been gone for so long, so that names which come and go leave nothing.
-- Of others it notes since when they have been gone, or that they are back. $1 how long.
with noted as (
  update forgotten_slots f set left_at = case when s.name is null then now() end
  from forgotten_slots g
  left join schedule s on s.namespace = g.namespace and s.name = g.schedule
  where f.namespace = g.namespace and f.schedule = g.schedule and (s.name is null) = (f.left_at is null)
)
delete from forgotten_slots f
where left_at < now() - $1::interval
  and not exists (select from schedule s where s.namespace = f.namespace and s.name = f.schedule)
