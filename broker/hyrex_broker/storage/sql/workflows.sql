-- name: family
-- Of tasks that are roots or nodes: their root, their workflow's nodes if they are a root, and those that wait for them if
-- they are a node. $1 ids in order, as in `tasks` (reads.sql).
select t.id, t.kind, coalesce(case when t.kind = 1 then t.id end, t.parent_id) as root,
       case when t.kind = 1 then t.upstreams else t.downstreams end as others
from task t
where t.id = any ($1::uuid[]) and t.id between ($1::uuid[])[1] and ($1::uuid[])[cardinality($1::uuid[])]
  and t.workflow is not null

-- name: retry
-- Puts ended nodes back, with their roots where these have ended; they are blocked until `advance` has looked at them.
-- $1 ids in order: roots, their nodes and what waits for those. $2 the nodes that were asked for: they run again however
-- they ended. $3 the roots that were asked for: of their nodes those run again that did not complete.
-- First it locks what waits for the nodes that it puts back, so that `advance`, which locks it too, sees them live; a node
-- whose root has just ended is left for the next look. Returns what was put back. Locks rows of `blocked` in id order.
with held as materialized (
  select task_id, kind from blocked
  where task_id = any ($1::uuid[]) and kind in (1, 3) order by task_id for key share
), last as materialized (
  select i.id, r.run_number, r.outcome, t.kind, t.lane, t.rank, t.parent_id
  from unnest($1::uuid[]) as i (id)
  cross join lateral (
    select kind, lane, rank, parent_id from task
    where task.id = i.id and task.id between ($1::uuid[])[1] and ($1::uuid[])[cardinality($1::uuid[])] limit 1
  ) t
  cross join lateral (
    select run_number, outcome, final from task_run
    where task_id = i.id and task_id between ($1::uuid[])[1] and ($1::uuid[])[cardinality($1::uuid[])]
    order by run_number desc limit 1
  ) r
  -- Always true; it makes this wait for the locks.
  where (select count(*) from held) >= 0
    and r.final and (select true from live where live.task_id = i.id limit 1) is null
), roots as (
  insert into reopen (task_id, after_run_number)
  select id, run_number from last
  where kind = 1 and (id = any ($3::uuid[]) or id = any (array(select parent_id from last where id = any ($2::uuid[]))))
  order by id
  on conflict (task_id, after_run_number) do nothing
  returning task_id
), nodes as (
  insert into reopen (task_id, after_run_number)
  select id, run_number from last
  where kind is distinct from 1 and (
    (id = any ($2) and parent_id = any (array(
      select task_id from roots union all select task_id from held where kind = 1)))
    or (outcome <> 2 and parent_id = any ($3) and parent_id = any (array(select task_id from roots))))
  order by id
  on conflict (task_id, after_run_number) do nothing
  returning task_id
), placed as materialized (
  select l.id, l.lane, l.rank, l.run_number + 1 as run_number, case when l.kind = 1 then 1 else 3 end as kind
  from last l
  where l.id = any (array(select task_id from roots union all select task_id from nodes))
), blocked as (
  insert into blocked (task_id, lane, rank, kind, run_number, attempt_number, redeliveries, releases, alone)
  select id, lane, rank, kind, run_number, 0, 0, 0, false from placed order by id
)
select id, lane, rank from placed

-- name: left_out
-- Those of these roots that were reopened by the retry of a node alone: others are left as badly as they had ended before
-- that. $1 ids in order.
select t.id
from unnest($1::uuid[]) as i (id)
cross join lateral (
  select id, upstreams, (select min(u.id::text)::uuid from unnest(upstreams) as u (id)) as lowest,
         (select max(u.id::text)::uuid from unnest(upstreams) as u (id)) as highest
  from task
  where task.id = i.id and task.id between ($1::uuid[])[1] and ($1::uuid[])[cardinality($1::uuid[])] and kind = 1 limit 1
) t
cross join lateral (
  select reopened_at from reopen where task_id = t.id order by after_run_number desc limit 1
) o
where exists (
  select from unnest(t.upstreams) as u (id)
  cross join lateral (
    select run_number, outcome, final, finished_at from task_run
    where task_run.task_id = u.id and task_run.task_id between t.lowest and t.highest
    order by run_number desc limit 1
  ) r
  where r.final and r.outcome <> 2 and r.finished_at < o.reopened_at
    and (select true from reopen p where p.task_id = u.id and p.after_run_number = r.run_number limit 1) is null)

-- name: advance
-- See the function of this name (migrations/0001_first.sql). $1 tasks, in the order of their ids, $2 largest payload.
select decided::text, became, into_lane, at_rank from advance($1::uuid[], $2::bigint)

-- name: waiting
-- Roots and nodes that wait for others, of so many blocked tasks from a task on, by its id. $1 tasks above this one, $2 how
-- many. The last row has the last task that was looked at, and none if there was no other.
with looked as materialized (
  select task_id, kind from blocked where task_id > $1::uuid order by task_id limit $2::integer
)
select task_id, false as last from looked where kind in (1, 3)
union all
select (select task_id from looked order by task_id desc limit 1), true

-- name: due
-- Those of them that `advance` should look at: nothing for which they wait lives, or their workflow is to be stopped.
-- $1 ids in order.
select t.id from task t
where t.id = any ($1::uuid[]) and t.id between ($1::uuid[])[1] and ($1::uuid[])[cardinality($1::uuid[])]
  and (not waits_for_any(t.upstreams) or t.workflow ? 'fail_fast'
       or (select true from blocked where blocked.task_id = t.id and cancel_at is not null limit 1))

-- name: given_up
-- Those of these nodes that are to be cancelled with their workflow, by what is so now. $1 ids in order.
select g.decided from given_up(array(
  select distinct t.parent_id from task t
  where t.id = any ($1::uuid[]) and t.id between ($1::uuid[])[1] and ($1::uuid[])[cardinality($1::uuid[])] order by 1
)) g
where g.decided = any ($1::uuid[])

-- name: nodes
-- Tasks that are nodes, their roots, what they are called, and whether they are given results. $1 ids in order, as in
-- `tasks` (reads.sql).
select t.id::text, t.parent_id::text as root, t.workflow->>'node' as node, t.workflow ? 'binds' as binds
from task t
where t.id = any ($1::uuid[]) and t.id between ($1::uuid[])[1] and ($1::uuid[])[cardinality($1::uuid[])]
  and t.downstreams is not null

-- name: said
-- What was said of nodes, and for which they wait, the last one first. $1 ids in order, as in `tasks` (reads.sql).
select t.id::text, t.kind, t.workflow::text as workflow,
       case when not t.workflow ? 'edges' then t.upstreams::text[] end as upstreams
from task t
where t.id = any ($1::uuid[]) and t.id between ($1::uuid[])[1] and ($1::uuid[])[cardinality($1::uuid[])]
  and t.downstreams is not null

-- name: roots
-- What the runs of nodes need of their roots. $1 ids in order, as in `tasks` (reads.sql).
select t.id::text, l.name, t.payload, t.content_type, t.codec
from task t cross join lateral (select name from lane where lane.id = t.lane limit 1) l
where t.id = any ($1::uuid[]) and t.id between ($1::uuid[])[1] and ($1::uuid[])[cardinality($1::uuid[])]

-- name: results
-- The results of tasks that completed, as long as they have no more than so many bytes together; those above it are
-- left out, with their sizes. $1 ids in order, as in `tasks` (reads.sql), $2 how many bytes; null: all.
select f.id::text, f.name, f.content_type, f.size, f.together > $2::bigint as left_out,
       case when f.together > $2 then null else f.result end as result
from (
  select i.id, l.name, r.content_type, r.result, octet_length(r.result) as size,
         sum(octet_length(r.result)) over (order by i.id rows unbounded preceding) as together
  from unnest($1::uuid[]) as i (id)
  cross join lateral (
    select lane from task
    where task.id = i.id and task.id between ($1::uuid[])[1] and ($1::uuid[])[cardinality($1::uuid[])] limit 1
  ) t
  cross join lateral (select name from lane where lane.id = t.lane limit 1) l
  cross join lateral (
    select outcome, result, content_type from task_run
    where task_id = i.id and task_id between ($1::uuid[])[1] and ($1::uuid[])[cardinality($1::uuid[])]
    order by run_number desc limit 1
  ) r
  where r.outcome = 2
) f

-- name: graph
-- The graph of a workflow: its root's id, its nodes (the last one first) and what was said of it. $1 its root or a node.
select r.id::text, r.upstreams::text[] as nodes, r.workflow::text as workflow
from old_task($1::uuid) t
cross join lateral old_task(case when t.kind = 1 then t.id else t.parent_id end) r
where t.workflow is not null and r.kind = 1

-- name: standings
-- How many tasks stand alike, by their lanes: in which live table and how often they ran before, or how they ended. What is
-- gone is in no row. It is one statement, so it has one snapshot. $1 ids in order, as in `tasks` (reads.sql).
select l.queue, s.live, s.ran, s.outcome, s.cause, sum(s.count)::integer as count
from (
  select t.lane, w.live, coalesce(w.run_number, 0) > 0 as ran, r.outcome, r.cause, count(*) as count
  from unnest($1::uuid[]) as i (id)
  cross join lateral (
    select lane from task
    where task.id = i.id and task.id between ($1::uuid[])[1] and ($1::uuid[])[cardinality($1::uuid[])] limit 1
  ) t
  left join lateral (select place as live, run_number from live where live.task_id = i.id limit 1) w on true
  left join lateral (
    select outcome, cause from task_run
    where w.live is null and task_id = i.id
      and task_id between ($1::uuid[])[1] and ($1::uuid[])[cardinality($1::uuid[])]
    order by run_number desc limit 1
  ) r on true
  group by 1, 2, 3, 4, 5
) s
cross join lateral (select queue from lane where lane.id = s.lane limit 1) l
group by 1, 2, 3, 4, 5

-- name: awaited
-- For which nodes a root or a node still waits, the first ones; none if it waits for none. $1 task, $2 how many.
select coalesce(n.workflow->>'node', u.id::text) as name
from blocked b
cross join lateral old_task(b.task_id) t
cross join lateral (
  select id, place from unnest(t.upstreams) with ordinality as u (id, place)
  where waits_for_any(array[id]) order by place desc limit $2::integer
) u
cross join lateral old_task(u.id) n
where b.task_id = $1::uuid and b.kind in (1, 3)
order by u.place desc

-- name: queues_below
-- Of those of these tasks that are roots: the queues of their nodes. $1 ids in order, as in `tasks` (reads.sql).
select t.id::text as id, array_agg(distinct l.queue) as queues
from task t
cross join lateral unnest(t.upstreams) as u (id)
join task n on n.id = u.id
join lane l on l.id = n.lane
where t.id = any ($1::uuid[]) and t.id between ($1::uuid[])[1] and ($1::uuid[])[cardinality($1::uuid[])] and t.kind = 1
group by t.id
