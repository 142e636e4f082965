-- name: write
-- One row for each queue with something to tell of the last step, and one for all together (queue ''). Rows are only
-- inserted: where two are of one step, readers add them up. $1 broker; then a column for each: $2 queue, $3 submitted,
-- $4 completed, $5 failed, $6 timed out, $7 cancelled, $8 lost, $9 runs that ended, $10 waits and $11 run times by
-- bucket (arrays as text), $12 microseconds that runs took.
insert into stat (at, broker, queue, submitted, completed, failed, timed_out, cancelled, lost, runs, waits, run_times,
                  run_us)
select date_bin('10 seconds', now() - interval '5 seconds', 'epoch'), $1::bigint, c.queue, c.submitted, c.completed,
       c.failed, c.timed_out, c.cancelled, c.lost, c.runs, c.waits::integer[], c.run_times::integer[], c.run_us
from unnest($2::text[], $3::integer[], $4::integer[], $5::integer[], $6::integer[], $7::integer[], $8::integer[],
            $9::integer[], $10::text[], $11::text[], $12::bigint[])
  as c (queue, submitted, completed, failed, timed_out, cancelled, lost, runs, waits, run_times, run_us)

-- name: elect
-- Whether this transaction may do what one broker does for all: rolling up and looking at depths.
select pg_try_advisory_xact_lock(hashtextextended('hyrex:stats:' || current_schema(), 0)) as elected

-- name: looked_lately
-- Whether somebody has looked at depths in the present step.
select exists (select from stat where at >= date_bin('10 seconds', now(), 'epoch') and queue = '' and ready is not null)

-- name: write_depths
-- What waits and runs, for each queue and (queue '') together. $1 broker; columns: $2 queue, $3 ready, $4 delayed,
-- $5 blocked, $6 running, $7 seconds that the oldest ready one has waited, or null.
insert into stat (at, broker, queue, ready, delayed, blocked, running, oldest_s)
select date_bin('10 seconds', now(), 'epoch'), $1::bigint, c.queue, c.ready, c.delayed, c.blocked, c.running, c.oldest_s
from unnest($2::text[], $3::integer[], $4::integer[], $5::integer[], $6::integer[], $7::real[])
  as c (queue, ready, delayed, blocked, running, oldest_s)

-- name: roll_up
-- Adds up steps of 10 s to steps of 5 minutes, those that ended a while ago and are not there yet.
insert into stat_5min (at, broker, queue, submitted, completed, failed, timed_out, cancelled, lost, runs, waits,
                       run_times, run_us, ready, delayed, blocked, running, oldest_s)
with due as materialized (
  select date_bin('5 minutes', at, 'epoch') as slot, s.*
  from stat s
  where at >= greatest((select coalesce(max(at) + interval '5 minutes', '-infinity') from stat_5min),
                       date_bin('5 minutes', now() - interval '1 day', 'epoch'))
    and at < date_bin('5 minutes', now() - interval '30 seconds', 'epoch')
), buckets as (
  select slot, queue, kind, place, sum(n)::integer as n
  from due
  cross join lateral (
    select 0 as kind, place, n from unnest(due.waits) with ordinality as w (n, place)
    union all
    select 1, place, n from unnest(due.run_times) with ordinality as r (n, place)
  ) each
  group by slot, queue, kind, place
), joined as (
  select slot, queue, array_agg(n order by place) filter (where kind = 0) as waits,
         array_agg(n order by place) filter (where kind = 1) as run_times
  from buckets group by slot, queue
), sums as (
  select slot, queue, sum(submitted) as submitted, sum(completed) as completed, sum(failed) as failed,
         sum(timed_out) as timed_out, sum(cancelled) as cancelled, sum(lost) as lost, sum(runs) as runs,
         sum(run_us) as run_us, max(ready) as ready, max(delayed) as delayed, max(blocked) as blocked,
         max(running) as running, max(oldest_s) as oldest_s
  from due group by slot, queue
)
select s.slot, 0, s.queue, s.submitted, s.completed, s.failed, s.timed_out, s.cancelled, s.lost, s.runs,
       coalesce(j.waits, '{}'), coalesce(j.run_times, '{}'), s.run_us, s.ready, s.delayed, s.blocked, s.running, s.oldest_s
from sums s left join joined j on j.slot = s.slot and j.queue = s.queue

-- The two below read a range: $1 queue ('' for all together), $2 from, $3 until, $4 step, $5 whether 5 minutes are
-- fine enough: then what is not rolled up yet is read in steps of 10 s.

-- name: points
-- Sums by step.
with edge as materialized (
  select case when $5::boolean then coalesce(max(at) + interval '5 minutes', '-infinity') else '-infinity' end as at
  from stat_5min
), found as (
  select at, submitted, completed, failed, timed_out, cancelled, lost, runs, run_us, ready, delayed, blocked, running,
         oldest_s
  from stat_5min where $5 and queue = $1::text and at >= $2::timestamptz and at < $3::timestamptz
  union all
  select at, submitted, completed, failed, timed_out, cancelled, lost, runs, run_us, ready, delayed, blocked, running,
         oldest_s
  from stat where queue = $1 and at >= $2 and at < $3 and at >= (select edge.at from edge)
)
select date_bin($4::interval, at, 'epoch') as slot, sum(submitted) as submitted, sum(completed) as completed,
       sum(failed) as failed, sum(timed_out) as timed_out, sum(cancelled) as cancelled, sum(lost) as lost,
       sum(runs) as runs, sum(run_us) as run_us, max(ready) as ready, max(delayed) as delayed,
       max(blocked) as blocked, max(running) as running, max(oldest_s) as oldest_s
from found group by slot order by slot

-- name: distributions
-- Waits (kind 0) and run times (kind 1) by step and bucket.
with edge as materialized (
  select case when $5::boolean then coalesce(max(at) + interval '5 minutes', '-infinity') else '-infinity' end as at
  from stat_5min
), found as (
  select at, waits, run_times from stat_5min
  where $5 and queue = $1::text and at >= $2::timestamptz and at < $3::timestamptz
  union all
  select at, waits, run_times from stat
  where queue = $1 and at >= $2 and at < $3 and at >= (select edge.at from edge)
)
select date_bin($4::interval, at, 'epoch') as slot, kind, place::integer as place, sum(n) as n
from found
cross join lateral (
  select 0 as kind, place, n from unnest(waits) with ordinality as w (n, place)
  union all
  select 1, place, n from unnest(run_times) with ordinality as r (n, place)
) each
where n > 0
group by slot, kind, place order by slot, kind, place

-- name: rates
-- What the other brokers counted of each queue in the last step that all of them have written. $1 this broker.
select queue, sum(submitted) as submitted, sum(completed) as completed, sum(failed + timed_out + lost) as failed
from stat
where at = date_bin('10 seconds', now() - interval '15 seconds', 'epoch') and broker <> $1::bigint
group by queue
