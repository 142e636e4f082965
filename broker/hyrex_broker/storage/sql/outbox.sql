-- What callers stored in their own transactions (hyrex.enqueue), and how tasks are made of it. Rows are locked with SKIP
-- LOCKED, so brokers share the work; to store tasks and to remove their rows is one statement (rule 31).

-- name: here
-- The snapshot from which a broker goes on: transactions that are over by now are looked for by `below`.
select pg_current_snapshot()::text as snapshot

-- name: look
-- What has been committed since an earlier look, by transaction and id, with the snapshot of this look in every row (one row
-- of nulls where there is nothing). Reads on from a snapshot: the transactions that were in progress then, by name, and
-- all that began later. So it neither passes what was removed before, nor misses who commits late.
-- A range of one transaction and not an equality: with that, and statistics of one large transaction, Postgres takes the
-- order of the primary key instead, and reads all dead rows.
-- $1 transactions in progress at the earlier look, an array as text; $2 transaction and $3 id of the last row seen of those;
-- $4 transaction and $5 id of the last row seen of later ones; $6 how many of each; $7 the options that this broker knows.
select s.snapshot::text, f.id, f.xid::text as xid, f.is_late, f.task, coalesce(f.queue, d.queue, 'default') as queue,
       f.size_bytes, f.has_key, f.unknown_option, f.concurrency_key, f.fair_key, f.expires, f.unfit
from (select pg_current_snapshot() as snapshot) s
left join lateral (
  select true as is_late, n.* from (
    select o.* from unnest(($1::text)::xid8[]) as late (xid)
    cross join lateral (
      select outbox.id, outbox.xid, outbox.task, outbox.queue,
             octet_length(outbox.payload) + octet_length(outbox.options::text) as size_bytes,
             outbox.options ? 'idempotency_key' as has_key,
             (select key from jsonb_object_keys(outbox.options) as key where key <> all ($7::text[]) limit 1) as unknown_option,
             outbox.options->>'concurrency_key' as concurrency_key, outbox.options->>'fair_key' as fair_key,
             outbox.options ? 'expires_in_seconds' as expires, unfit(outbox) as unfit
      from outbox
      where outbox.xid between late.xid and late.xid and held is null
        and (outbox.xid, outbox.id) > (($2::text)::xid8, $3::uuid)
      order by outbox.xid, outbox.id limit $6::integer
    ) o
    order by o.xid, o.id limit $6::integer
  ) n
  union all
  select false, o.* from (
    select outbox.id, outbox.xid, outbox.task, outbox.queue,
           octet_length(outbox.payload) + octet_length(outbox.options::text) as size_bytes,
           outbox.options ? 'idempotency_key' as has_key,
           (select key from jsonb_object_keys(outbox.options) as key where key <> all ($7::text[]) limit 1) as unknown_option,
           outbox.options->>'concurrency_key' as concurrency_key, outbox.options->>'fair_key' as fair_key,
             outbox.options ? 'expires_in_seconds' as expires, unfit(outbox) as unfit
    from outbox
    where held is null and (outbox.xid, outbox.id) > (($4::text)::xid8, $5::uuid)
    order by outbox.xid, outbox.id limit $6::integer
  ) o
) f on true
left join lateral (
  select queue from task_definition where namespace = 0 and name = f.task limit 1
) d on f.queue is null
order by f.is_late desc, f.xid, f.id

-- name: below
-- The first transaction below one that has rows left: of a broker that was killed, or of before this one began. $1 transaction.
select outbox.xid::text as xid from outbox where held is null and outbox.xid < ($1::text)::xid8
order by outbox.xid limit 1

-- part: taken
-- The rows, locked and removed, with what their options and their definitions say. $1 to $3 as in `relay`.
taken as materialized (
  delete from outbox using (
    select w.lane, w.key_hash, o.place
    from unnest($1::uuid[], $2::integer[], $3::bigint[]) as w (id, lane, key_hash)
    cross join lateral (select ctid as place from outbox where outbox.id = w.id for update skip locked) o
  ) locked
  where outbox.ctid = locked.place
  returning outbox.*, locked.lane, locked.key_hash
), item as materialized (
  select t.*, t.options->>'idempotency_key' as key,
         coalesce(10 - (t.options->'priority')::numeric::smallint, 10 - d.priority, 5)::smallint as rank,
         coalesce((t.options->'max_retries')::numeric::integer, d.max_retries, 0) as retries,
         coalesce(ceil((t.options->'timeout_seconds')::numeric * 1000)::bigint, d.timeout_ms) as timeout_ms,
         greatest(t.run_at, t.enqueued_at)
           + (t.options->>'expires_in_seconds')::double precision * interval '1 second' as expires_at
  from taken t
  left join lateral (
    select priority, max_retries, timeout_ms from task_definition where namespace = 0 and name = t.task limit 1
  ) d on true
),

-- part: moved_on
-- What was stored (`placed`) is ready, or waits; the end of a statement.
queued as (
  insert into ready (task_id, lane, rank, arrival, run_number, attempt_number, redeliveries, releases, alone)
  select id, lane, rank, now(), 0, 0, 0, 0, false from placed where due <= now() and key_hash is null order by id
), keyed as (
  insert into blocked (task_id, lane, rank, drops, run_number, attempt_number, redeliveries, releases, alone)
  select id, lane, rank, coalesce(on_full = 'refuse', false), 0, 0, 0, 0, false
  from placed where due <= now() and key_hash is not null order by id
), waiting as (
  insert into delayed (task_id, lane, rank, run_at, run_number, attempt_number, redeliveries, releases, alone)
  select id, lane, rank, due, 0, 0, 0, 0, false from placed where due > now() order by id
), expiring as (
  insert into expiry (look_at, task_id, expires_at)
  select expires_at, id, expires_at from placed where expires_at is not null order by id
)
select id, lane, rank, due > now() as waits, due <= now() and key_hash is not null as blocked from placed

-- name: relay
-- Makes tasks of rows without idempotency keys and removes those, in one statement: so each becomes a task once or not at
-- all, whenever a broker is killed, and no ready row is older than a statement may take (rule 25). What another broker has
-- locked or taken is left out. Locks rows in id order. Returns the tasks, and whether they wait for their time.
-- $1 ids in order, $2 their lanes, $3 the hashes of their concurrency keys or null. What has one and may run is blocked until it
-- is followed.
with
-- use: taken
stored as (
  insert into task (id, lane, rank, max_retries, timeout_ms, retry_delay_ms, digest, payload, parent_id, root_id,
                    submitted_at, content_type, codec, headers, labels, trace_context, expires_at,
                    concurrency_key, key_hash, max_per_key, fair_key)
  select id, lane, rank, retries, timeout_ms, ceil((options->'retry_delay_seconds')::numeric * 1000)::bigint, 0, payload,
         (options->>'parent_id')::uuid, (options->>'root_id')::uuid, enqueued_at, options->>'content_type',
         options->>'codec', nullif(options->'headers', '{}'), nullif(options->'labels', '{}'),
         decode(options->>'trace_context', 'hex'), expires_at,
         options->>'concurrency_key', key_hash,
         case when key_hash is not null then coalesce((options->'max_per_key')::numeric::integer, 1) end, options->>'fair_key'
  from item where (select lanes_usable($2)) order by id
  on conflict (id) do nothing
  returning id
), placed as materialized (
  select i.id, i.lane, i.rank, coalesce(i.run_at, now()) as due, i.expires_at, i.key_hash, i.options->>'on_full' as on_full
  from item i
  where i.id = any (array(select id from stored))
),
-- use: moved_on

-- name: relay_keyed
-- The same for rows with idempotency keys: it may wait for whoever claims the same key, so others have their own
-- statement. A task whose key belongs to another one ends as cancelled, since its id was given out. A key whose task is
-- gone with its day is free. Keys are locked in (name, key) order, as in `submit_waiting`. $1 ids in order, $2 their lanes, $3
-- the hashes of their concurrency keys or null, as in `relay`.
with
-- use: taken
freed as (
  delete from idempotency where ctid = any (array(
    select k.place
    from (select task, key from item order by 1, 2) i
    cross join lateral (
      select ctid as place from idempotency
      where namespace = 0 and idempotency.name = i.task and idempotency.key = i.key
        and (select true from task where task.id = idempotency.task_id limit 1) is null
      for update
    ) k))
  returning task_id
), claimed as (
  insert into idempotency (namespace, name, key, task_id)
  select 0, task, key, id from item
  -- Always true; it makes this wait for `freed`.
  where (select count(*) from freed) >= 0
  order by task, key, id
  on conflict (namespace, name, key) do nothing
  returning name, key, task_id
), stored as (
  insert into task (id, lane, rank, max_retries, timeout_ms, retry_delay_ms, digest, payload, parent_id, root_id,
                    submitted_at, content_type, codec, headers, labels, trace_context, expires_at, idempotency_key,
                    concurrency_key, key_hash, max_per_key, fair_key)
  select id, lane, rank, retries, timeout_ms, ceil((options->'retry_delay_seconds')::numeric * 1000)::bigint, 0, payload,
         (options->>'parent_id')::uuid, (options->>'root_id')::uuid, enqueued_at, options->>'content_type',
         options->>'codec', nullif(options->'headers', '{}'), nullif(options->'labels', '{}'),
         decode(options->>'trace_context', 'hex'), expires_at, case when id = any (array(select task_id from claimed)) then key end,
         options->>'concurrency_key', key_hash,
         case when key_hash is not null then coalesce((options->'max_per_key')::numeric::integer, 1) end, options->>'fair_key'
  from item where (select lanes_usable($2)) order by id
  on conflict (id) do nothing
  returning id
), deduplicated as (
  insert into task_run (task_id, run_number, attempt_number, outcome, final, reason)
  select i.id, 0, 0, 5, true, 'its idempotency key belongs to ' || coalesce('task ' || h.task_id, 'another task')
  from item i
  left join lateral (
    select task_id from claimed where claimed.name = i.task and claimed.key = i.key
    union all
    select task_id from idempotency where namespace = 0 and idempotency.name = i.task and idempotency.key = i.key
    limit 1
  ) h on true
  where i.id = any (array(select id from stored)) and i.id <> all (array(select task_id from claimed))
  order by i.id
), placed as materialized (
  select i.id, i.lane, i.rank, coalesce(i.run_at, now()) as due, i.expires_at, i.key_hash, i.options->>'on_full' as on_full
  from item i
  where i.id = any (array(select id from stored)) and i.id = any (array(select task_id from claimed))
),
-- use: moved_on

-- name: keep_days
-- Until the end of this transaction nobody removes or compacts days: a row of long ago becomes a task of its own day, which
-- might go at this very moment. Waits for whoever does (`try_to_exclude_others`, schema.sql), as long as the transaction's
-- lock_timeout says.
select pg_advisory_xact_lock_shared(
  hashtext('hyrex.schema'), hashtext(trim('"' from split_part(current_setting('search_path'), ',', 1))))

-- name: hold
-- Replaces rows that cannot become tasks now by rows that say why. $1 ids in order, $2 their queues (null: as they are),
-- $3 reasons (or null): arrays; $4 'full' or 'refused'.
with taken as materialized (
  delete from outbox using (
    select w.queue, w.reason, o.place
    from unnest($1::uuid[], $2::text[], $3::text[]) as w (id, queue, reason)
    cross join lateral (select ctid as place from outbox where outbox.id = w.id for update skip locked) o
  ) locked
  where outbox.ctid = locked.place
  returning outbox.id, xid, task, payload, options, run_at, enqueued_at, coalesce(locked.queue, outbox.queue) as its_queue,
            locked.reason as its_reason
)
insert into outbox (id, xid, task, queue, payload, options, run_at, enqueued_at, held, reason, held_at)
select id, xid, task, its_queue, payload, options, run_at, enqueued_at, $4::text, its_reason, now() from taken order by id

-- name: full_queues
-- The queues of which rows wait for room, by one step of an index for each.
with recursive each as (
  (select queue from outbox where held = 'full' order by queue limit 1)
  union all
  select (select queue from outbox where held = 'full' and outbox.queue > each.queue order by queue limit 1)
  from each where each.queue is not null
)
select queue from each where queue is not null

-- name: full
-- Rows that wait for room in a queue; a range, as in `look`. $1 queue, $2 the id before, $3 how many.
select id, xid::text as xid, true as is_late, task, queue, octet_length(payload) + octet_length(options::text) as size_bytes,
       options ? 'idempotency_key' as has_key, null::text as unknown_option,
       options->>'concurrency_key' as concurrency_key, options->>'fair_key' as fair_key,
       options ? 'expires_in_seconds' as expires, unfit(outbox) as unfit
from outbox where held = 'full' and (queue, id) > ($1::text, $2::uuid) and queue <= $1::text
order by queue, id limit $3::integer

-- name: refused
-- Rows of which a broker could not make tasks. $1 the id before, $2 how many, $3 the options that this broker knows.
select id, xid::text as xid, true as is_late, task, queue, octet_length(payload) + octet_length(options::text) as size_bytes,
       options ? 'idempotency_key' as has_key,
       (select key from jsonb_object_keys(options) as key where key <> all ($3::text[]) limit 1) as unknown_option,
       options->>'concurrency_key' as concurrency_key, options->>'fair_key' as fair_key,
       options ? 'expires_in_seconds' as expires, unfit(outbox) as unfit, reason
from outbox where held = 'refused' and id > $1::uuid order by id limit $2::integer

-- name: waiting
-- Rows by the ids of their tasks, with what their definitions say. $1 ids in order, $2 whether with payloads. A row
-- that is refused may have a payload that fits in no message, or impossible times: they are null.
select o.id, o.task, coalesce(o.queue, d.queue, 'default') as queue, o.options::text as options,
       case when $2::boolean and octet_length(o.payload) <= 15000000 then o.payload end as payload,
       case when o.run_at between '1970-01-01Z' and '2200-01-01Z' then o.run_at end as run_at,
       coalesce(o.run_at <= now(), true) as is_due,
       case when o.enqueued_at between '1970-01-01Z' and '2200-01-01Z' then o.enqueued_at end as enqueued_at,
       o.held, o.held_at, o.reason, d.priority, d.max_retries, d.timeout_ms
from unnest($1::uuid[]) as i (id)
cross join lateral (select * from outbox where outbox.id = i.id limit 1) o
left join lateral (
  select queue, priority, max_retries, timeout_ms from task_definition where namespace = 0 and name = o.task limit 1
) d on true
order by o.id

-- name: of_ids
-- Rows by id, as `look` has them. $1 ids in order, $2 the options that this broker knows.
select o.id, o.xid::text as xid, true as is_late, o.task, coalesce(o.queue, d.queue, 'default') as queue,
       octet_length(o.payload) + octet_length(o.options::text) as size_bytes, o.options ? 'idempotency_key' as has_key,
       (select key from jsonb_object_keys(o.options) as key where key <> all ($2::text[]) limit 1) as unknown_option, o.held,
       o.options->>'concurrency_key' as concurrency_key, o.options->>'fair_key' as fair_key,
       o.options ? 'expires_in_seconds' as expires, o.unfit, o.reason
from unnest($1::uuid[]) as i (id)
cross join lateral (select outbox.*, unfit(outbox) as unfit from outbox where outbox.id = i.id limit 1) o
left join lateral (select queue from task_definition where namespace = 0 and name = o.task limit 1) d on true

-- name: discard
-- Removes rows of which no task could be made, which somebody cancels. $1 ids.
delete from outbox where id = any ($1::uuid[]) and held = 'refused' returning id
