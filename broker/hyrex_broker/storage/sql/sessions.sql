-- name: open_session
-- A new session owned by this broker. $1 owner, $2 secret, $3 worker_name, $4 host, $5 pid, $6 sdk,
-- $7 queue_patterns, $8 task_names, $9 capacity, $10 lease duration, $11 origin (or null),
-- $12 scopes, $13 names, $14 maxima of its limits, $15 slots, $16 counts, $17 periods and $18 bursts of their rates.
insert into worker_session (namespace, owner, secret, worker_name, host, pid, sdk, queue_patterns, task_names,
                            capacity, expires_at, origin, limit_scopes, limit_names, limit_maxima, slots,
                            limit_rate_counts, limit_rate_periods_ms, limit_rate_bursts)
values (0, $1, $2, $3, $4, $5, $6, $7, $8, $9, now() + $10::interval, $11, $12, $13, $14, $15, $16, $17, $18)
returning id, generation

-- name: lock_session
-- Locks a session against assigns and renewals; what they did is visible to the next statement only.
-- $1 id.
select id, secret, ended_at is not null as ended
from worker_session where id = $1 for update

-- name: take_over
-- Makes a locked session this broker's. $1 id, $2 owner, $3 lease duration, $4 queue_patterns,
-- $5 task_names, $6 capacity, $7 sdk, $8 received_through, $9 slots.
update worker_session
set owner = $2, generation = generation + 1, expires_at = now() + $3::interval, queue_patterns = $4,
    task_names = $5, capacity = $6, sdk = $7, received_through = $8, slots = $9
where id = $1
returning generation, draining, self_draining

-- name: origin_of
-- The session with which the worker of this one began, for the worker's next one. $1 id.
select secret, coalesce(origin, id) as origin from worker_session where id = $1

-- name: end_session
-- Ends locked sessions. $1 ids, $2 reasons.
update worker_session set ended_at = now(), end_reason = r.reason
from unnest($1::bigint[], $2::text[]) as r (session, reason)
where id = r.session and ended_at is null

-- name: renew
-- Prolongs sessions whose heartbeat has arrived, and returns them. A session whose time is over is prolonged too,
-- as long as nobody has ended it: its worker speaks, and the clock may have jumped (rule 8). A row that is locked
-- is passed over, since a sweeper may be ending that session.
-- $1 ids in order, $2 generations, $3 received_through, $4 owner, $5 lease duration, $6 capacities (for people),
-- $7 true: the worker wants no more work, which is never taken back, $8 slots (for people).
-- Each row is looked up once: while some transaction is open, the row has a dead version for each renewal.
with alive as materialized (
  select w.place, s.received_through, s.capacity, s.self_draining, s.slots
  from unnest($1::bigint[], $2::bigint[], $3::bigint[], $6::integer[], $7::boolean[], $8::integer[])
    as s (id, generation, received_through, capacity, self_draining, slots)
  cross join lateral (
    select ctid as place from worker_session
    where worker_session.id = s.id and owner = $4 and worker_session.generation = s.generation
      and ended_at is null
    for no key update skip locked
  ) w
)
update worker_session w
set expires_at = now() + $5::interval, received_through = a.received_through, capacity = a.capacity,
    slots = a.slots, self_draining = w.self_draining or a.self_draining
from alive a
where w.ctid = a.place
returning w.id, w.draining

-- name: ownership
-- Why sessions were not renewed: taken by another stream (of this broker or another one), ended, or neither:
-- then another statement holds the row. One that is not stored any more is both.
-- $1 ids, $2 generations, $3 owner.
select s.id, coalesce(w.owner <> $3 or w.generation <> s.generation, true) as taken,
       coalesce(w.ended_at is not null, true) as ended
from unnest($1::bigint[], $2::bigint[]) as s (id, generation)
left join lateral (select owner, generation, ended_at from worker_session where id = s.id) w on true

-- name: cancels_of
-- Leases with a cancel request of the last ten minutes: an overdue run is ended long before they are over, and the
-- dead rows of older requests are not read. $1 sessions.
select task_id, token, session_id, cancel_reason from lease
where session_id = any ($1::bigint[]) and cancel_at >= now() - interval '10 minutes'

-- name: expired
-- Sessions whose time is over, those that hold leases first; and the database's time in Unix seconds.
-- $1 how many sessions.
select array(
         select s.id
         from worker_session s
         cross join lateral (select (select true from lease where session_id = s.id limit 1) is null as empty) l
         where s.ended_at is null and s.expires_at <= now()
         order by l.empty, s.id limit $1),
       extract(epoch from clock_timestamp())::float8

-- name: set_back
-- For when the database's clock went back: sessions that nobody renews would expire later by as much. Left out are
-- those that were renewed since, or set back by another broker: their expiry is near the present.
-- $1 how far the clock went back, more than two leases; $2 lease duration.
update worker_session set expires_at = expires_at - $1::interval
where id = any (array(
  select id from worker_session
  where ended_at is null and expires_at > now() + $1::interval - $2::interval
  order by id
  for no key update skip locked))

-- name: lock_expired
-- Locks those of some sessions whose time is still over, in id order; what another sweeper holds is passed over.
-- $1 ids.
select id, worker_name, received_through from worker_session
where id = any ($1::bigint[]) and ended_at is null and expires_at <= now()
order by id
for update skip locked
