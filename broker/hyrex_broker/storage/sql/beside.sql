-- The outbox of a database beside the broker's, and how its rows come into the broker's own (engine/beside.py). The
-- statements `look`, `sizes`, `take` and `there` are for that database; `carry` and those after it for the broker's.

-- name: installed
-- Whether there is an outbox for this, and whether the schema is one of brokers.
select to_regclass('outbox_version') is not null as is_outbox, to_regclass('schema_version') is not null as is_brokers

-- name: look
-- As `look` of outbox.sql, with what the database has that has no brokers. $1 transactions in progress at the earlier look,
-- an array as text; $2 transaction and $3 id of the last row seen of those; $4 transaction and $5 id of the last row seen
-- of later ones; $6 how many of each.
select s.snapshot::text, f.id, f.xid::text as xid, f.is_late, f.size_bytes
from (select pg_current_snapshot() as snapshot) s
left join lateral (
  select true as is_late, n.* from (
    select o.* from unnest(($1::text)::xid8[]) as late (xid)
    cross join lateral (
      select outbox.id, outbox.xid, octet_length(outbox.payload) + octet_length(outbox.options::text) as size_bytes
      from outbox
      where outbox.xid between late.xid and late.xid and held is null
        and (outbox.xid, outbox.id) > (($2::text)::xid8, $3::uuid)
      order by outbox.xid, outbox.id limit $6::integer
    ) o
    order by o.xid, o.id limit $6::integer
  ) n
  union all
  select false, o.* from (
    select outbox.id, outbox.xid, octet_length(outbox.payload) + octet_length(outbox.options::text) as size_bytes
    from outbox
    where held is null and (outbox.xid, outbox.id) > (($4::text)::xid8, $5::uuid)
    order by outbox.xid, outbox.id limit $6::integer
  ) o
) f on true
order by f.is_late desc, f.xid, f.id

-- name: sizes
-- Those of these rows that are there. $1 ids in order, $2 also those that were refused.
select o.id, o.size_bytes
from unnest($1::uuid[]) as i (id)
cross join lateral (
  select id, octet_length(payload) + octet_length(options::text) as size_bytes
  from outbox where outbox.id = i.id and (held is null or $2::boolean) limit 1
) o

-- name: take
-- Removes rows, which another broker cannot take as long as this transaction lasts. $1 ids in order.
delete from outbox using (
  select o.place
  from unnest($1::uuid[]) as w (id)
  cross join lateral (select ctid as place from outbox where outbox.id = w.id for update skip locked) o
) locked
where outbox.ctid = locked.place
returning id, task, queue, payload, options::text as options, run_at, enqueued_at

-- name: carry
-- Puts rows into the broker's own outbox, each once, however often it comes: what was carried before is left out, and
-- not returned. Locks
-- rows of `carried` in id order. $1 ids in order, $2 to $7 the columns of the rows.
with anew as materialized (
  insert into carried (id) select id from unnest($1::uuid[]) as w (id) order by id
  on conflict (id) do nothing
  returning id
)
insert into outbox (id, task, queue, payload, options, run_at, enqueued_at)
select id, task, queue, payload, options::jsonb, run_at, enqueued_at
from unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::timestamptz[], $7::timestamptz[])
  as w (id, task, queue, payload, options, run_at, enqueued_at)
where id = any (array(select id from anew))
order by id
on conflict (id) do nothing
returning id

-- name: carried
-- Rows that were carried so long ago that no statement about them is under way any more. $1 how many.
select id from carried where carried_at < now() - interval '10 minutes' order by carried_at, id limit $1::integer

-- name: forget
-- Rows that are there no more cannot be carried again. $1 ids.
delete from carried where id = any ($1::uuid[])
