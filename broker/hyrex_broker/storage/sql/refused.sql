-- Refused rows of an outbox, for people: that of the broker's database, and that of one beside it. Whoever owns the other
-- database may have inserted rows himself, so nothing is taken for granted of what a row holds.

-- name: page
-- Newest first. $1 the id before which, $2 how many, $3 bytes of the longest options.
select id, left(task, 255) as task, left(queue, 255) as queue, reason, held_at,
       case when enqueued_at between '1970-01-01Z' and '2200-01-01Z' then enqueued_at end as enqueued_at,
       octet_length(payload)::bigint + octet_length(options::text) as size_bytes,
       case when octet_length(options::text) <= $3::integer then options::text end as options, null::bytea as payload
from outbox where held = 'refused' and id < $1::uuid order by id desc limit $2::integer

-- name: of_ids
-- The same by id. $1 ids in order, $2 bytes of the longest options, $3 of the longest payload.
select o.* from unnest($1::uuid[]) as i (id)
cross join lateral (
  select id, left(task, 255) as task, left(queue, 255) as queue, reason, held_at,
         case when enqueued_at between '1970-01-01Z' and '2200-01-01Z' then enqueued_at end as enqueued_at,
         octet_length(payload)::bigint + octet_length(options::text) as size_bytes,
         case when octet_length(options::text) <= $2::integer then options::text end as options,
         case when octet_length(payload) <= $3::integer then payload end as payload
  from outbox where outbox.id = i.id and held = 'refused' limit 1
) o

-- name: queues
-- The queues of tasks by their definitions. $1 names.
select name, queue from task_definition where namespace = 0 and name = any ($1::text[])

-- name: change
-- Replaces a refused row by one with other content, refused still, and returns its id; waits for whoever tries it again.
-- $1 id, $2 queue, $3 payload, $4 options: null where it stays as it is; $5 when it may run or $6 after how long, where
-- options are given.
with taken as (
  delete from outbox where id = $1::uuid and held = 'refused'
  returning id, xid, task, queue, payload, options, run_at, enqueued_at, reason
)
insert into outbox (id, xid, task, queue, payload, options, run_at, enqueued_at, held, reason, held_at)
select id, xid, task, coalesce($2::text, queue), coalesce($3::bytea, payload), coalesce($4::jsonb, options),
       case when $4::text is null then run_at else coalesce(now() + $6::interval, $5::timestamptz) end, enqueued_at, 'refused', reason, now()
from taken
returning id

-- name: count
-- How many there are, counted up to $1.
select count(*) as count from (select from outbox where held = 'refused' limit $1::integer) o

-- name: by_queue
-- The newest ones by their queues, or by their tasks where they name no queue: how many, since when, and why the newest
-- was. $1 how many are looked at.
select queue, task, count(*) as count, min(held_at) as since, (array_agg(reason order by id desc))[1] as reason
from (
  select id, left(queue, 255) as queue, case when queue is null then left(task, 255) end as task,
         coalesce(held_at, now()) as held_at, coalesce(left(reason, 1000), '') as reason
  from outbox where held = 'refused' order by id desc limit $1::integer
) o
group by queue, task

-- name: past
-- Removes rows that were refused longer ago than $1, the oldest first, up to $2; their ids. What is tried again just now is
-- left out.
delete from outbox where ctid = any (array(
  select ctid from outbox where held = 'refused' and held_at < now() - $1::interval
  order by held_at limit $2::integer for update skip locked))
returning id
