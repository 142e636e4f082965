-- name: sessions
-- Worker sessions, newest first, with what they hold. One whose time is over counts as ended, though nobody may
-- have swept it yet. `draining`: an operator or its own worker wants it to leave.
-- $1 ids below this one, $2 how many, $3 true: ended ones too, $4 true: with the names of their tasks.
select s.id, s.worker_name, s.host, s.pid, s.sdk, s.queue_patterns,
       case when $4::boolean then s.task_names else '{}' end as task_names, s.capacity, s.slots, b.name as broker,
       s.started_at, s.expires_at, s.draining or s.self_draining as draining, s.ended_at, s.end_reason,
       (select count(*) from lease l where l.session_id = s.id) as leases
from worker_session s left join broker b on b.id = s.owner
where s.namespace = 0 and s.id < $1::bigint
  and ($3::boolean or (s.ended_at is null and s.expires_at > now()))
order by s.id desc
limit $2::integer

-- name: drain_session
-- Asks a living session to finish and leave; its broker reads the flag with the next renewal. $1 id.
update worker_session set draining = true where id = $1 and ended_at is null
returning id

-- name: brokers
-- Brokers seen in the last minute, by name, with the living sessions that they serve.
select b.id, b.name, b.address, b.version, b.started_at, b.seen_at,
       (select count(*) from worker_session s
        where s.owner = b.id and s.ended_at is null and s.expires_at > now()) as workers
from broker b
where b.seen_at > now() - interval '1 minute'
order by b.name, b.id
