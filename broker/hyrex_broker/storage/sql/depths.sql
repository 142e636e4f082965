-- name: ready
-- What is ready, by queue: how many, and for how long the first has waited. Skips from one (lane, rank) to the
-- next in the index, and counts no further than a cap, so that a full queue costs no more than a busy one.
-- $1 how many (lane, rank) pairs are looked at, $2 how many tasks are counted in all, $3 at most of one pair.
with recursive pair as (
  (select lane, rank, arrival from ready where lane >= 0 order by lane, rank, arrival limit 1)
  union all
  select n.lane, n.rank, n.arrival
  from pair p cross join lateral (
    select r.lane, r.rank, r.arrival from ready r
    where (r.lane, r.rank) > (p.lane, p.rank) and r.lane >= p.lane order by r.lane, r.rank, r.arrival limit 1
  ) n
), head as materialized (
  select lane, rank, arrival from pair limit $1::integer
), room as materialized (
  select least($3::integer, $2::integer / greatest(count(*), 1)) as most from head
)
select l.queue, sum(c.count)::bigint as waiting,
       greatest(extract(epoch from now() - min(h.arrival)), 0)::float8 as oldest_s
from head h
cross join room
cross join lateral (
  select count(*) from (
    select from ready r where r.lane = h.lane and r.rank = h.rank and r.arrival >= h.arrival limit room.most
  ) x
) c
cross join lateral (select queue from lane where lane.id = h.lane) l
group by l.queue

-- name: delayed
-- What is delayed, by queue, in the same way. $1 how many lanes, $2 how many tasks in all, $3 at most of a lane.
with recursive lanes as (
  (select lane from delayed where lane >= 0 order by lane, task_id limit 1)
  union all
  select n.lane
  from lanes p cross join lateral (
    select d.lane from delayed d where d.lane > p.lane order by d.lane, d.task_id limit 1
  ) n
), head as materialized (
  select lane from lanes limit $1::integer
), room as materialized (
  select least($3::integer, $2::integer / greatest(count(*), 1)) as most from head
)
select l.queue, sum(c.count)::bigint as waiting
from head h
cross join room
cross join lateral (select count(*) from (select from delayed d where d.lane = h.lane limit room.most) x) c
cross join lateral (select queue from lane where lane.id = h.lane) l
group by l.queue

-- name: blocked
-- What waits for a seat of its concurrency key, by queue, in the same way. $1 how many lanes, $2 how many tasks in all, $3 at most of a lane.
with recursive lanes as (
  (select lane from blocked where lane >= 0 order by lane, task_id limit 1)
  union all
  select n.lane
  from lanes p cross join lateral (
    select b.lane from blocked b where b.lane > p.lane order by b.lane, b.task_id limit 1
  ) n
), head as materialized (
  select lane from lanes limit $1::integer
), room as materialized (
  select least($3::integer, $2::integer / greatest(count(*), 1)) as most from head
)
select l.queue, sum(c.count)::bigint as waiting
from head h
cross join room
cross join lateral (select count(*) from (select from blocked b where b.lane = h.lane limit room.most) x) c
cross join lateral (select queue from lane where lane.id = h.lane) l
group by l.queue

-- name: of_queue
-- What waits in one queue, ready, delayed or blocked, counted no further than a cap. $1 queue, $2 cap.
select (select count(*) from (
          select from lane l cross join lateral (select from ready where lane = l.id limit $2::integer) r
          where l.namespace = 0 and l.queue = $1::text limit $2) waiting)
     + (select count(*) from (
          select from lane l cross join lateral (select from delayed where lane = l.id limit $2) d
          where l.namespace = 0 and l.queue = $1 limit $2) later)
     + (select count(*) from (
          select from lane l cross join lateral (select from blocked where lane = l.id limit $2) b
          where l.namespace = 0 and l.queue = $1 and l.followed limit $2) blocked)
