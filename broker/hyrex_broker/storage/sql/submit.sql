-- part: plain_tasks
-- Stores tasks that may all run at once. $1 to $16 as in `submit`.
  insert into task (id, lane, rank, max_retries, timeout_ms, retry_delay_ms, digest, payload, parent_id, root_id,
                    content_type, codec, headers, labels, trace_context, fair_key)
  select id, coalesce(lane, ($2::integer[])[1]), coalesce(rank, ($3::smallint[])[1]),
         coalesce(max_retries, ($4::integer[])[1]), timeout_ms, retry_delay_ms, digest, payload, parent_id, root_id,
         content_type, codec, headers, labels, trace_context, fair_key
  from unnest(($1::text)::uuid[], $2::integer[], $3::smallint[], $4::integer[], $5::bigint[], $6::bigint[],
              ($7::text)::bigint[], $8::bytea[], $9::uuid[], $10::uuid[],
              $11::text[], $12::text[], ($13::text)::jsonb[], ($14::text)::jsonb[], $15::bytea[], $16::text[])
    as t (id, lane, rank, max_retries, timeout_ms, retry_delay_ms, digest, payload, parent_id, root_id,
          content_type, codec, headers, labels, trace_context, fair_key)

-- name: submit
-- Stores a batch of tasks that may all run at once. If an id was stored before, the whole fails (23505), and
-- `submit_again` stores the others. `on conflict` here would cost each batch a fifth more.
-- $1 id, $2 lane, $3 rank, $4 max_retries, $5 timeout_ms, $6 retry_delay_ms, $7 digest, $8 payload,
-- $9 parent_id, $10 root_id, $11 content_type, $12 codec, $13 headers, $14 labels, $15 trace_context, $16 fair_key: arrays in
-- id order (unique keys are locked in that order); $1, $7, $13 and $14 as text. A column that no task has is null;
-- a lane, rank or max_retries that all share is sent once. $17 the lanes, each once: none may be closed (`lanes_usable`).
with stored as (
  -- use: plain_tasks
  where (select case when count(*) = cardinality($17::integer[]) then true else lanes_closed() end
         from lane where lane.id = any ($17::integer[]) and usable_until > now())
  returning id, lane, rank
)
insert into ready (task_id, lane, rank, arrival, run_number, attempt_number, redeliveries, releases, alone)
select id, lane, rank, now(), 0, 0, 0, 0, false from stored

-- name: submit_again
-- `submit` where some of the batch may be stored already; returns the ids of those stored now.
-- $1..$17 as in `submit`.
with stored as (
  -- use: plain_tasks
  where (select case when count(*) = cardinality($17::integer[]) then true else lanes_closed() end
         from lane where lane.id = any ($17::integer[]) and usable_until > now())
  on conflict (id) do nothing
  returning id, lane, rank
), queued as (
  insert into ready (task_id, lane, rank, arrival, run_number, attempt_number, redeliveries, releases, alone)
  select id, lane, rank, now(), 0, 0, 0, 0, false from stored
)
select array_agg(replace(id::text, '-', '')) from stored

-- part: freed
-- Frees the keys of `item` whose tasks are gone. Key and task are stored together, so one snapshot never shows a key before
-- its task.
freed as (
  delete from idempotency where ctid = any (array(
    select k.place
    from (select name, idempotency_key as key from item where idempotency_key is not null order by 1, 2) i
    cross join lateral (
      select ctid as place from idempotency
      where namespace = 0 and idempotency.name = i.name and idempotency.key = i.key
        and (select true from task where task.id = idempotency.task_id limit 1) is null
      for update
    ) k))
  returning task_id
),

-- name: submit_waiting
-- The same for tasks with delays, run times or idempotency keys: it may wait for whoever claims the same key,
-- so others have their own statement. A task whose key is taken is not stored. Also for those that no worker runs: they
-- wait for a call from outside (`complete`, outside.sql).
-- Returns id and whether the task waits, for its time or for a call.
-- $1..$16 as in `submit`; $17 delay_ms, $18 run_at, $19 idempotency_key, $20 name (of the task, for the key),
-- $21 expires_in_ms, from when it may first run, $22 kind: 2 where no worker runs it.
-- A key whose task is gone with its day is free. Keys are locked in (name, key) order, those to be freed
-- first; ids in id order.
with item as materialized (
  select t.id, coalesce(t.lane, ($2::integer[])[1]) as lane, coalesce(t.rank, ($3::smallint[])[1]) as rank,
         coalesce(t.max_retries, ($4::integer[])[1]) as max_retries,
         t.timeout_ms, t.retry_delay_ms, t.digest, t.payload, t.parent_id, t.root_id, t.idempotency_key,
         t.content_type, t.codec, t.headers, t.labels, t.name, t.trace_context, t.fair_key, t.kind,
         coalesce(t.run_at, now() + t.delay_ms * interval '1 millisecond', now()) as due,
         greatest(t.run_at, now()) + (coalesce(t.delay_ms, 0) + t.expires_in_ms) * interval '1 millisecond' as expires_at
  from unnest(($1::text)::uuid[], $2::integer[], $3::smallint[], $4::integer[], $5::bigint[], $6::bigint[],
              ($7::text)::bigint[], $8::bytea[], $9::uuid[], $10::uuid[],
              $11::text[], $12::text[], ($13::text)::jsonb[], ($14::text)::jsonb[], $15::bytea[], $16::text[],
              $17::bigint[], $18::timestamptz[], $19::text[], $20::text[], $21::bigint[], $22::smallint[])
    as t (id, lane, rank, max_retries, timeout_ms, retry_delay_ms, digest, payload, parent_id, root_id,
          content_type, codec, headers, labels, trace_context, fair_key, delay_ms, run_at, idempotency_key, name, expires_in_ms,
          kind)
),
-- use: freed
claimed as (
  insert into idempotency (namespace, name, key, task_id)
  select 0, name, idempotency_key, id from item
  where idempotency_key is not null and (select true from task where task.id = item.id limit 1) is null
    -- Always true; it makes this wait for `freed`.
    and (select count(*) from freed) >= 0
  order by name, idempotency_key, id
  on conflict (namespace, name, key) do nothing
  returning task_id
), stored as (
  insert into task (id, lane, rank, max_retries, timeout_ms, retry_delay_ms, digest, payload, parent_id, root_id,
                    idempotency_key, content_type, codec, headers, labels, trace_context, fair_key, expires_at, kind)
  select id, lane, rank, max_retries, timeout_ms, retry_delay_ms, digest, payload, parent_id, root_id,
         idempotency_key, content_type, codec, headers, labels, trace_context, fair_key, expires_at, kind
  from item
  where (select lanes_usable($2)) and (idempotency_key is null or id = any (array(select task_id from claimed)))
  order by id
  on conflict (id) do nothing
  returning id
), placed as materialized (
  select i.id, i.lane, i.rank, i.due, i.expires_at, i.kind from item i where i.id = any (array(select id from stored))
), queued as (
  insert into ready (task_id, lane, rank, arrival, run_number, attempt_number, redeliveries, releases, alone)
  select id, lane, rank, now(), 0, 0, 0, 0, false from placed where due <= now() and kind is null order by id
), waiting as (
  insert into delayed (task_id, lane, rank, run_at, run_number, attempt_number, redeliveries, releases, alone)
  select id, lane, rank, due, 0, 0, 0, 0, false from placed where due > now() and kind is null order by id
), held as (
  insert into blocked (task_id, lane, rank, kind, run_number, attempt_number, redeliveries, releases, alone)
  select id, lane, rank, kind, 0, 0, 0, 0, false from placed where kind is not null order by id
), expiring as (
  insert into expiry (look_at, task_id, expires_at)
  select expires_at, id, expires_at from placed where expires_at is not null order by id
)
select replace(id::text, '-', ''), due > now() or kind is not null as waits from placed

-- name: submit_keyed
-- Stores tasks with concurrency keys, some with delays, run times or idempotency keys: those that may run at once are
-- admitted or wait for a seat of their key; see `admit` (migrations/0001_first.sql), which waits for the stripes of the
-- keys. So they have statements of their own.
-- $1..$21 as in `submit_waiting`; $22 concurrency_key, $23 key_hash (an array as text), $24 max_per_key (of one entry if all
-- share it), $25 whether it refuses to wait (null: none does), $26 the mark of its key (an array as text; 0: none).
-- Returns each task that was not stored before, and what became of it: 1 ready, 2 blocked, 3 refused (not stored; with
-- a task that holds the key), null: it waits for its time; with a new mark of its key, if it is the first of that. Fails
-- (23505) if another stores one of them meanwhile.
with item as materialized (
  select t.id, coalesce(t.lane, ($2::integer[])[1]) as lane, coalesce(t.rank, ($3::smallint[])[1]) as rank,
         coalesce(t.max_retries, ($4::integer[])[1]) as max_retries,
         t.timeout_ms, t.retry_delay_ms, t.digest, t.payload, t.parent_id, t.root_id, t.idempotency_key,
         t.content_type, t.codec, t.headers, t.labels, t.name, t.trace_context, t.fair_key,
         coalesce(t.run_at, now() + t.delay_ms * interval '1 millisecond', now()) as due,
         greatest(t.run_at, now()) + (coalesce(t.delay_ms, 0) + t.expires_in_ms) * interval '1 millisecond' as expires_at,
         t.concurrency_key, t.key_hash, coalesce(t.max_per_key, ($24::integer[])[1]) as max_per_key, t.refuses, t.mark
  from unnest(($1::text)::uuid[], $2::integer[], $3::smallint[], $4::integer[], $5::bigint[], $6::bigint[],
              ($7::text)::bigint[], $8::bytea[], $9::uuid[], $10::uuid[],
              $11::text[], $12::text[], ($13::text)::jsonb[], ($14::text)::jsonb[], $15::bytea[], $16::text[],
              $17::bigint[], $18::timestamptz[], $19::text[], $20::text[],
              $21::bigint[],
              $22::text[], ($23::text)::bigint[], $24::integer[], $25::boolean[], ($26::text)::bigint[])
    as t (id, lane, rank, max_retries, timeout_ms, retry_delay_ms, digest, payload, parent_id, root_id,
          content_type, codec, headers, labels, trace_context, fair_key, delay_ms, run_at, idempotency_key, name, expires_in_ms,
          concurrency_key, key_hash, max_per_key, refuses, mark)
),
-- use: freed
fresh as materialized (
  select * from item where (select true from task where task.id = item.id limit 1) is null
), claimed as (
  insert into idempotency (namespace, name, key, task_id)
  select 0, name, idempotency_key, id from fresh
  where idempotency_key is not null
    -- Always true; it makes this wait for `freed`.
    and (select count(*) from freed) >= 0
  order by name, idempotency_key, id
  on conflict (namespace, name, key) do nothing
  returning task_id
), wanted as materialized (
  select f.*, f.due <= now() as now, row_number() over (partition by f.due <= now() order by f.id) as place
  from fresh f
  where f.idempotency_key is null or f.id = any (array(select task_id from claimed))
), decided as materialized (
  select a.admissions, a.holders, a.marks
  from (
    select array_agg(id order by id) as ids, array_agg(lane order by id) as lanes, array_agg(rank order by id) as ranks,
           array_agg(key_hash order by id) as keys, array_agg(max_per_key order by id) as mosts,
           array_agg(mark order by id) as marks,
           case when $25::boolean[] is not null then array_agg(refuses order by id) end as refusing
    from wanted where now
  ) w
  cross join lateral admit(w.ids, w.lanes, w.ranks, w.keys, w.mosts, w.refusing, w.marks, true) a
), judged as materialized (
  select w.*, case when w.admission = 3 then d.holders[w.place] end as holder,
         case when w.now then d.marks[w.place] end as new_mark
  from (select w.*, case when w.now then d.admissions[w.place] end as admission from wanted w cross join decided d) w
  cross join decided d
), stored as (
  insert into task (id, lane, rank, max_retries, timeout_ms, retry_delay_ms, digest, payload, parent_id, root_id,
                    idempotency_key, content_type, codec, headers, labels, trace_context, fair_key, expires_at,
                    concurrency_key, key_hash, max_per_key)
  select id, lane, rank, max_retries, timeout_ms, retry_delay_ms, digest, payload, parent_id, root_id,
         idempotency_key, content_type, codec, headers, labels, trace_context, fair_key, expires_at,
         concurrency_key, key_hash, max_per_key
  from judged where (select lanes_usable($2)) and admission is distinct from 3 order by id
), queued as (
  insert into ready (task_id, lane, rank, arrival, run_number, attempt_number, redeliveries, releases, alone)
  select id, lane, rank, now(), 0, 0, 0, 0, false from judged where admission = 1 order by id
), waiting as (
  insert into delayed (task_id, lane, rank, run_at, run_number, attempt_number, redeliveries, releases, alone)
  select id, lane, rank, due, 0, 0, 0, 0, false from judged where not now order by id
), expiring as (
  insert into expiry (look_at, task_id, expires_at)
  select expires_at, id, expires_at from judged
  where expires_at is not null and admission is distinct from 3 order by id
)
select replace(id::text, '-', ''), admission, holder::text, new_mark from judged

-- name: classify
-- What is known of ids and keys that a submit did not store, a row for each in their order. An id without a
-- digest was refused for its key (see holder), or its competitor rolled back: submit it again. A key whose task
-- is gone has no holder. Of a holder: whether its payload is another one, and where it stands (its live table
-- and run number, else the outcome of its last run).
-- $1 id (as text), $2 name, $3 idempotency_key (or null), $4 payload (null without a key): arrays.
select t.digest, h.id as holder, h.differs, l.place as live,
       coalesce(l.run_number, 0) as run_number, r.outcome
from unnest(($1::text)::uuid[], $2::text[], $3::text[], $4::bytea[]) with ordinality
  as i (id, name, key, payload, place)
left join lateral (select digest from task where task.id = i.id limit 1) t on true
left join lateral (
  select task_id from idempotency where namespace = 0 and name = i.name and key = i.key limit 1
) k on true
left join lateral (
  select id, payload <> i.payload as differs from task where task.id = k.task_id limit 1
) h on true
left join lateral (select place, run_number from live where live.task_id = h.id limit 1) l on true
left join lateral (select outcome from task_run where task_id = h.id order by run_number desc limit 1) r on true
order by i.place

-- part: unleased
-- The sessions that are this broker's still, and the lanes of which no task may be leased now (rule 18). $17 to $22 as in
-- `submit_handing_off`.
mine as materialized (
  select w.id
  from unnest($17::bigint[], $18::bigint[]) as s (id, generation)
  cross join lateral (
    select id from worker_session
    where worker_session.id = s.id and owner = $20 and worker_session.generation = s.generation
      and ended_at is null
    for key share
  ) w
), unleased as materialized (
  select q.lane
  from unnest($21::integer[]) with ordinality as q (lane, place)
  where (select count(*) from mine) < cardinality($17::bigint[])
    or coalesce((select l.limited from lane l where l.id = q.lane), true)
    or exists (
      select from generate_series(0, 9) as each (rank)
      cross join lateral (
        select from ready r
        where r.lane = q.lane and r.rank = each.rank
          and r.arrival >= coalesce(($22::timestamptz[])[(q.place::integer - 1) * 10 + each.rank + 1],
                                    ($22::timestamptz[])[1])
        limit 1
      ) waiting)
),

-- name: submit_handing_off
-- `submit` and the assign of the same tasks in one: those with a token become leases of sessions with free
-- capacity, the others are ready. Only where the sessions are still this broker's and the lane has no
-- limit and no ready row (rule 18); else all of the lane is ready. Fails as `submit` does (23505).
-- Returns the lanes of which no task was leased for that, and the database's time.
-- $1..$16 as in `submit`. $17 session ids in order, $18 their generations, $19 their sequences, $20 this broker's id.
-- $21 the lanes of the tokens, $22 the low-water marks of their ten ranks, lane after lane;
-- a single one is that of all.
-- $23 the token of each task (null: it has none), an array as text; $24 its session, by its place in $17, an array
-- as text; a single one is that of every task. $25 whether some task has no token, $26 slack of a deadline in ms.
-- $27 the lanes, each once: none may be closed.
with
-- use: unleased
stored as (
  -- use: plain_tasks
  where (select case when count(*) = cardinality($27::integer[]) then true else lanes_closed() end
         from lane where lane.id = any ($27::integer[]) and usable_until > now())
), leased as (
  insert into lease (task_id, lane, rank, token, session_id, sequence, assigned_at, deadline,
                     run_number, attempt_number, redeliveries, releases, alone)
  select id, lane, rank, token, ($17::bigint[])[session], ($19::bigint[])[session], now(),
         now() + (timeout_ms + $26::bigint) * interval '1 millisecond', 0, 0, 0, 0, false
  from (
    select t.id, coalesce(t.lane, ($2::integer[])[1]) as lane, coalesce(t.rank, ($3::smallint[])[1]) as rank,
           t.timeout_ms, t.token, coalesce(t.session, one.session) as session
    from unnest(($1::text)::uuid[], $2::integer[], $3::smallint[], $5::bigint[], ($23::text)::bigint[],
                ($24::text)::integer[]) as t (id, lane, rank, timeout_ms, token, session)
    cross join (select (($24::text)::integer[])[1] as session offset 0) one
  ) t
  where token is not null and lane <> all (array(select lane from unleased))
), queued as (
  insert into ready (task_id, lane, rank, arrival, run_number, attempt_number, redeliveries, releases, alone)
  select id, lane, rank, now(), 0, 0, 0, 0, false
  from (
    select t.id, coalesce(t.lane, ($2::integer[])[1]) as lane, coalesce(t.rank, ($3::smallint[])[1]) as rank, t.token
    from unnest(($1::text)::uuid[], $2::integer[], $3::smallint[], ($23::text)::bigint[])
      as t (id, lane, rank, token)
  ) t
  -- Mostly there is none: known before any task is looked at.
  where ($25::boolean or (select true from unleased limit 1))
    and (token is null or lane = any (array(select lane from unleased)))
)
select array(select lane from unleased) as unleased, now() as stored_at

-- name: submit_keyed_handing_off
-- `submit_handing_off` for tasks with concurrency keys that may all run at once: those that have a seat become leases or
-- are ready, the others wait in `blocked` or are refused; see `admit` (migrations/0001_first.sql). If one of the keys' stripes
-- is held for longer than a moment, nothing is done: the slots are not kept for as long as that.
-- Returns what `submit_handing_off` does, and what became of each task (null: nothing was done): 1 leased or ready,
-- 2 blocked, 3 refused (not stored), with who holds the keys of those, and the keys' new marks. Fails as `submit` does
-- (23505).
-- $1..$26 as in `submit_handing_off`; $27 concurrency_key, $28 key_hash (an array as text), $29 max_per_key (of one
-- entry if all share it), $30 whether it refuses to wait (null: none does), $31 the marks of the keys, as in `submit_keyed`.
with
-- use: unleased
decided as materialized (
  select admissions, holders, marks
  from admit(($1::text)::uuid[], $2::integer[], $3::smallint[], ($28::text)::bigint[], $29::integer[], $30::boolean[],
             ($31::text)::bigint[], false)
), stored as (
  insert into task (id, lane, rank, max_retries, timeout_ms, retry_delay_ms, digest, payload, parent_id, root_id,
                    content_type, codec, headers, labels, trace_context, fair_key, concurrency_key, key_hash, max_per_key)
  select id, coalesce(lane, ($2::integer[])[1]), coalesce(rank, ($3::smallint[])[1]),
         coalesce(max_retries, ($4::integer[])[1]), timeout_ms, retry_delay_ms, digest, payload, parent_id, root_id,
         content_type, codec, headers, labels, trace_context, fair_key, concurrency_key, key_hash,
         coalesce(max_per_key, ($29::integer[])[1])
  from unnest(($1::text)::uuid[], $2::integer[], $3::smallint[], $4::integer[], $5::bigint[], $6::bigint[],
              ($7::text)::bigint[], $8::bytea[], $9::uuid[], $10::uuid[],
              $11::text[], $12::text[], ($13::text)::jsonb[], ($14::text)::jsonb[], $15::bytea[], $16::text[],
              $27::text[], ($28::text)::bigint[], $29::integer[], (select admissions from decided))
    as t (id, lane, rank, max_retries, timeout_ms, retry_delay_ms, digest, payload, parent_id, root_id,
          content_type, codec, headers, labels, trace_context, fair_key, concurrency_key, key_hash, max_per_key, admission)
  where (select lanes_usable($2)) and admission in (1, 2)
), leased as (
  insert into lease (task_id, lane, rank, token, session_id, sequence, assigned_at, deadline,
                     run_number, attempt_number, redeliveries, releases, alone)
  select id, lane, rank, token, ($17::bigint[])[session], ($19::bigint[])[session], now(),
         now() + (timeout_ms + $26::bigint) * interval '1 millisecond', 0, 0, 0, 0, false
  from (
    select t.id, coalesce(t.lane, ($2::integer[])[1]) as lane, coalesce(t.rank, ($3::smallint[])[1]) as rank,
           t.timeout_ms, t.token, coalesce(t.session, one.session) as session
    from unnest(($1::text)::uuid[], $2::integer[], $3::smallint[], $5::bigint[], ($23::text)::bigint[],
                ($24::text)::integer[], (select admissions from decided))
      as t (id, lane, rank, timeout_ms, token, session, admission)
    cross join (select (($24::text)::integer[])[1] as session offset 0) one
    where t.admission = 1
  ) t
  where token is not null and lane <> all (array(select lane from unleased))
), queued as (
  insert into ready (task_id, lane, rank, arrival, run_number, attempt_number, redeliveries, releases, alone)
  select id, lane, rank, now(), 0, 0, 0, 0, false
  from (
    select t.id, coalesce(t.lane, ($2::integer[])[1]) as lane, coalesce(t.rank, ($3::smallint[])[1]) as rank, t.token
    from unnest(($1::text)::uuid[], $2::integer[], $3::smallint[], ($23::text)::bigint[], (select admissions from decided))
      as t (id, lane, rank, token, admission)
    where t.admission = 1
  ) t
  -- Mostly there is none: known before any task is looked at.
  where ($25::boolean or (select true from unleased limit 1))
    and (token is null or lane = any (array(select lane from unleased)))
)
select array(select lane from unleased) as unleased, now() as stored_at, admissions, holders::text[], marks from decided

-- name: submit_debounced
-- Stores tasks with debounce keys, or moves the tasks that wait for these keys. Returns a row for each that was stored,
-- without a holder, and for each that moved another one: that, and whether its payload is another one. Those that were
-- stored before are missing. Keys are locked in order, then ids.
-- $1..$16 as in `submit`; $17 delay_ms, $18 the longest wait in ms or null, $19 queue, $20 name, $21 key.
with item as materialized (
  select t.id, coalesce(t.lane, ($2::integer[])[1]) as lane, coalesce(t.rank, ($3::smallint[])[1]) as rank,
         coalesce(t.max_retries, ($4::integer[])[1]) as max_retries,
         t.timeout_ms, t.retry_delay_ms, t.digest, t.payload, t.parent_id, t.root_id,
         t.content_type, t.codec, t.headers, t.labels, t.trace_context, t.fair_key, t.delay_ms, t.most_ms, t.queue, t.name, t.key
  from unnest(($1::text)::uuid[], $2::integer[], $3::smallint[], $4::integer[], $5::bigint[], $6::bigint[],
              ($7::text)::bigint[], $8::bytea[], $9::uuid[], $10::uuid[],
              $11::text[], $12::text[], ($13::text)::jsonb[], ($14::text)::jsonb[], $15::bytea[], $16::text[],
              $17::bigint[], $18::bigint[], $19::text[], $20::text[], $21::text[])
    as t (id, lane, rank, max_retries, timeout_ms, retry_delay_ms, digest, payload, parent_id, root_id,
          content_type, codec, headers, labels, trace_context, fair_key, delay_ms, most_ms, queue, name, key)
), taken as materialized (
  select d.id, d.holder, d.differs
  from (
    select array_agg(id) as ids, array_agg(lane) as lanes, array_agg(rank) as ranks, array_agg(payload) as payloads,
           array_agg(delay_ms) as delays, array_agg(most_ms) as most, array_agg(queue) as queues, array_agg(name) as names, array_agg(key) as keys
    from item
  ) i
  cross join lateral take_debounce_keys(
    i.ids, i.lanes, i.ranks, i.payloads, i.delays, i.most, i.queues, i.names, i.keys) d
), stored as (
  insert into task (id, lane, rank, max_retries, timeout_ms, retry_delay_ms, digest, payload, parent_id, root_id,
                    content_type, codec, headers, labels, trace_context, fair_key)
  select id, lane, rank, max_retries, timeout_ms, retry_delay_ms, digest, payload, parent_id, root_id,
         content_type, codec, headers, labels, trace_context, fair_key
  from item
  where (select lanes_usable($2)) and id = any (array(select id from taken where holder is null))
  order by id
)
select replace(id::text, '-', ''), holder::text, differs from taken

-- name: move_debounced
-- `submit_debounced` where nothing may be stored: moves the tasks that wait for these keys. Returns a row for each that moved
-- another one, as there. $1 id (an array as text), $2 payload, $3 delay_ms, $4 the longest wait in ms or null, $5 queue, $6 name,
-- $7 key: arrays.
select replace(id::text, '-', ''), holder::text, differs
from take_debounce_keys(($1::text)::uuid[], null, null, $2::bytea[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[],
                        false)

-- name: submit_workflow
-- Stores a workflow, all of its tasks or none; returns how many. If an id was stored before, the whole fails (23505); it
-- is none if the root's idempotency key belongs to another task. What waits for nothing is ready, or delayed; one with a
-- concurrency key is blocked until `follow` has looked at it.
-- $1 kind (1 the root, 2 waits for a call from outside), $2 upstreams, $3 downstreams, $4 workflow (these three arrays as
-- text), $5 delay_ms, $6 run_at, $7 expires_in_ms, $8 concurrency_key, $9 key_hash (an array as text), $10 max_per_key: of each
-- task, in id order. $11 the root's id, $12 its name, $13 its idempotency key or null.
-- $14 and what follows as $1 and what follows in `submit`.
with item as materialized (
  select t.id, coalesce(t.lane, ($15::integer[])[1]) as lane, coalesce(t.rank, ($16::smallint[])[1]) as rank,
         coalesce(t.max_retries, ($17::integer[])[1]) as max_retries,
         t.timeout_ms, t.retry_delay_ms, t.digest, t.payload, t.parent_id, t.root_id, t.content_type, t.codec, t.headers,
         t.labels, t.trace_context, t.fair_key, t.kind, t.upstreams::uuid[] as upstreams, t.downstreams::uuid[] as downstreams,
         t.workflow, t.concurrency_key, t.key_hash, t.max_per_key,
         t.kind is not distinct from 1 or t.upstreams <> '{}' as waits,
         coalesce(t.run_at, now() + t.delay_ms * interval '1 millisecond', now()) as due,
         case when t.upstreams = '{}' then
           greatest(t.run_at, now()) + (coalesce(t.delay_ms, 0) + t.expires_in_ms) * interval '1 millisecond' end as expires_at
  from unnest($1::smallint[], ($2::text)::text[], ($3::text)::text[], ($4::text)::jsonb[], $5::bigint[], $6::timestamptz[],
              $7::bigint[], $8::text[], ($9::text)::bigint[], $10::integer[],
              ($14::text)::uuid[], $15::integer[], $16::smallint[], $17::integer[], $18::bigint[], $19::bigint[],
              ($20::text)::bigint[], $21::bytea[], $22::uuid[], $23::uuid[],
              $24::text[], $25::text[], ($26::text)::jsonb[], ($27::text)::jsonb[], $28::bytea[], $29::text[])
    as t (kind, upstreams, downstreams, workflow, delay_ms, run_at, expires_in_ms, concurrency_key, key_hash, max_per_key,
          id, lane, rank, max_retries, timeout_ms, retry_delay_ms, digest, payload, parent_id, root_id,
          content_type, codec, headers, labels, trace_context, fair_key)
), freed as (
  -- As in the part `freed`.
  delete from idempotency where ctid = any (array(
    select ctid from idempotency
    where $13::text is not null and namespace = 0 and name = $12::text and key = $13
      and (select true from task where task.id = idempotency.task_id limit 1) is null
    for update))
  returning task_id
), claimed as (
  insert into idempotency (namespace, name, key, task_id)
  select 0, $12, $13, $11::uuid
  where $13 is not null and (select true from task where task.id = $11 limit 1) is null
    -- Always true; it makes this wait for `freed`.
    and (select count(*) from freed) >= 0
  on conflict (namespace, name, key) do nothing
  returning task_id
), stored as (
  insert into task (id, lane, rank, max_retries, timeout_ms, retry_delay_ms, digest, payload, parent_id, root_id,
                    content_type, codec, headers, labels, trace_context, kind, upstreams, downstreams, workflow,
                    concurrency_key, key_hash, max_per_key, expires_at, idempotency_key, fair_key)
  select id, lane, rank, max_retries, timeout_ms, retry_delay_ms, digest, payload, parent_id, root_id,
         content_type, codec, headers, labels, trace_context, kind, upstreams, downstreams, workflow,
         concurrency_key, key_hash, max_per_key, expires_at, case when id = $11 then $13 end, fair_key
  from item where (select lanes_usable($15)) and ($13 is null or (select true from claimed)) order by id
  returning id
), placed as materialized (
  select i.* from item i where (select true from stored limit 1)
), queued as (
  insert into ready (task_id, lane, rank, arrival, run_number, attempt_number, redeliveries, releases, alone)
  select id, lane, rank, now(), 0, 0, 0, 0, false from placed
  where not waits and kind is null and due <= now() and key_hash is null order by id
), delayed as (
  insert into delayed (task_id, lane, rank, run_at, run_number, attempt_number, redeliveries, releases, alone)
  select id, lane, rank, due, 0, 0, 0, 0, false from placed where not waits and kind is null and due > now() order by id
), held as (
  insert into blocked (task_id, lane, rank, kind, run_number, attempt_number, redeliveries, releases, alone)
  select id, lane, rank, case when kind = 1 then 1 when waits then 3 else kind end, 0, 0, 0, 0, false from placed
  where waits or kind = 2 or (due <= now() and key_hash is not null) order by id
), expiring as (
  insert into expiry (look_at, task_id, expires_at)
  select expires_at, id, expires_at from placed where expires_at is not null order by id
)
select count(*)::integer as stored from stored
