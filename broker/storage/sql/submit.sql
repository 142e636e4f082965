-- name: submit
-- Stores a batch whose tasks may all run at once and have nothing unusual; returns the ids stored.
-- An id that is missing from the result was stored before: read it with `classify`.
-- $1 id, $2 lane, $3 rank, $4 max_retries, $5 timeout_ms, $6 retry_delay_ms, $7 digest, $8 payload,
-- $9 parent_id, $10 root_id: arrays in id order (unique keys are locked in that order).
with stored as (
  insert into task (id, lane, rank, max_retries, timeout_ms, retry_delay_ms, digest, payload, parent_id, root_id)
  select * from unnest($1::uuid[], $2::integer[], $3::smallint[], $4::integer[], $5::bigint[], $6::bigint[],
                       $7::bigint[], $8::bytea[], $9::uuid[], $10::uuid[])
  on conflict (id) do nothing
  returning id, lane, rank
), queued as (
  insert into ready (task_id, lane, rank, arrival, run_number, attempt_number, redeliveries, releases, alone)
  select id, lane, rank, now(), 0, 0, 0, 0, false from stored
)
select id from stored

-- name: submit_unusual
-- The same for batches with delays, run times, idempotency keys, headers, labels or content types.
-- A task whose key is taken is not stored. Returns id and whether it waits for its time.
-- $1..$10 as in `submit`; $11 delay_ms, $12 run_at, $13 idempotency_key, $14 content_type, $15 codec,
-- $16 headers, $17 labels, $18 name (of the task, for the key): arrays in id order.
-- Keys are locked in (name, key) order, ids in id order.
with item as materialized (
  select t.*, coalesce(t.run_at, now() + t.delay_ms * interval '1 millisecond', now()) as due
  from unnest($1::uuid[], $2::integer[], $3::smallint[], $4::integer[], $5::bigint[], $6::bigint[],
              $7::bigint[], $8::bytea[], $9::uuid[], $10::uuid[], $11::bigint[], $12::timestamptz[],
              $13::text[], $14::text[], $15::text[], $16::jsonb[], $17::jsonb[], $18::text[])
    as t (id, lane, rank, max_retries, timeout_ms, retry_delay_ms, digest, payload, parent_id, root_id,
          delay_ms, run_at, idempotency_key, content_type, codec, headers, labels, name)
), claimed as (
  insert into idempotency (namespace, name, key, task_id)
  select 0, name, idempotency_key, id from item where idempotency_key is not null
  order by name, idempotency_key, id
  on conflict (namespace, name, key) do nothing
  returning task_id
), stored as (
  insert into task (id, lane, rank, max_retries, timeout_ms, retry_delay_ms, digest, payload, parent_id, root_id,
                    idempotency_key, content_type, codec, headers, labels)
  select id, lane, rank, max_retries, timeout_ms, retry_delay_ms, digest, payload, parent_id, root_id,
         idempotency_key, content_type, codec, headers, labels
  from item
  where idempotency_key is null or id = any (array(select task_id from claimed))
  order by id
  on conflict (id) do nothing
  returning id
), placed as materialized (
  select i.id, i.lane, i.rank, i.due from item i where i.id = any (array(select id from stored))
), queued as (
  insert into ready (task_id, lane, rank, arrival, run_number, attempt_number, redeliveries, releases, alone)
  select id, lane, rank, now(), 0, 0, 0, 0, false from placed where due <= now() order by id
), waiting as (
  insert into delayed (task_id, lane, rank, run_at, run_number, attempt_number, redeliveries, releases, alone)
  select id, lane, rank, due, 0, 0, 0, 0, false from placed where due > now() order by id
)
select id, due > now() as waits from placed

-- name: classify
-- What is known of ids and keys that a submit did not store. An id without a row in the result was
-- refused for its key (see holder), or its competitor rolled back: submit it again.
-- $1 id, $2 name, $3 idempotency_key (or null): arrays.
select i.id, t.digest, k.task_id as holder
from unnest($1::uuid[], $2::text[], $3::text[]) as i (id, name, key)
left join lateral (select digest from task where task.id = i.id) t on true
left join lateral (
  select task_id from idempotency where namespace = 0 and name = i.name and key = i.key
) k on true
