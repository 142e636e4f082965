-- serves brokers from: 1
--
-- The first schema. A task's state is the table that holds it: `ready`, `delayed` and `lease` are the
-- live tables (insert and delete only, so they stay tiny); `task` and `task_run` are insert-only and
-- partitioned by the time inside the task's id. No row of a live table is ever updated: a statement
-- that has waited for a row may then trust the version that it locked.

create table namespace (
  id   smallint primary key,
  name text not null unique
);
insert into namespace values (0, 'default');

create table broker (
  id         bigint generated always as identity primary key,
  name       text not null,
  address    text not null,
  version    text not null,
  started_at timestamptz not null default now(),
  seen_at    timestamptz not null default now(),
  watching   boolean not null default false,
  -- Whether it shows metrics: the oldest of those that do reads for all how much waits in each queue.
  observes   boolean not null default false,
  -- Whether it takes the rows of an outbox in another database. The others cannot look there.
  carries    boolean not null default false,
  -- The newest schema that its version knows: a database that serves later ones only is not for it any more.
  knows      integer not null default 1,
  -- What its version knows of what an earlier one would break (domain/features.py).
  features   text[] not null default '{}'
);

-- Features that were used in this database: tasks, limits or schedules are here that a broker must know to have to do with.
-- A broker that lacks one does not start (rule 21).
create table used_feature (
  name    text primary key,
  used_at timestamptz not null default now()
);

-- A lane is the interned (namespace, queue, task name): what the hot rows carry instead of texts. A task whose end
-- something waits for, or that shares its lane fairly with others, has a lane of its own: `followed`, `bucket`. So
-- plain tasks carry nothing of that, and whoever ends or assigns a task knows it by its lane.
create table lane (
  id        integer generated always as identity primary key,
  namespace smallint not null references namespace,
  queue     text not null,
  name      text not null,
  followed  boolean not null default false,
  bucket    smallint not null default 0 check (bucket between 0 and 64),
  limited   boolean not null,
  -- Until when tasks may be stored in it; who stores some renews that at times (storage/lanes.py). So a lane that nobody has
  -- used for long may be removed, and a broker that still knows it stores nothing there.
  usable_until timestamptz not null default now() + interval '2 days',
  unique (namespace, queue, name, followed, bucket)
);
create index lane_by_name on lane (namespace, name);

-- True if tasks may be stored in these lanes, else an error: whoever named them interns them again. A statement that stores
-- tasks asks this of its lanes; the hottest ones look themselves.
create function lanes_usable(lanes integer[]) returns boolean
language plpgsql
set search_path from current
as $$
begin
  if (select count(*) from lane where id = any (lanes) and usable_until > now())
     = (select count(distinct l) from unnest(lanes) l) then
    return true;
  end if;
  return lanes_closed();
end
$$;
create function lanes_closed() returns boolean
language plpgsql
as $$
begin
  raise exception 'a lane is named that was not used for long' using errcode = 'HX001';
end
$$;

create table queue (
  namespace smallint not null references namespace,
  name      text not null,
  paused    boolean not null default false,
  max_waiting integer check (max_waiting > 0),
  -- For how many days its tasks are kept, where that is shorter than the brokers say; those that did not end well by the second.
  retention_days   integer check (retention_days > 0),
  dead_letter_days integer check (dead_letter_days > 0),
  -- When it was declared, set or given a lane last, to the day.
  used_at timestamptz not null default now(),
  primary key (namespace, name)
);

-- A limit is a maximum, a rate or both. It is a lock, not a counter: an assign from a limited lane locks these rows
-- first, and counts the leases and looks at `rate_use` in its next statements.
create table concurrency_limit (
  namespace smallint not null references namespace,
  scope     text not null check (scope in ('queue', 'task')),
  name      text not null,
  maximum   integer check (maximum >= 0),
  source    text not null check (source in ('code', 'operator')),
  -- When it was set: what ran before may still run above it.
  changed_at timestamptz not null default now(),
  -- So many assigns in each period, and so many at once after a rest.
  rate_count     integer check (rate_count > 0),
  rate_period_ms bigint check (rate_period_ms > 0),
  rate_burst     integer check (rate_burst > 0),
  check ((rate_count is null) = (rate_period_ms is null) and (rate_count is null) = (rate_burst is null)),
  check (maximum is not null or rate_count is not null),
  primary key (namespace, scope, name)
);

create table task_definition (
  namespace   smallint not null references namespace,
  name        text not null,
  queue       text not null,
  max_retries integer not null,
  timeout_ms  bigint,
  priority    smallint not null,
  updated_at  timestamptz not null default now(),
  -- When a worker declared it last, to the day.
  declared_at timestamptz not null default now(),
  primary key (namespace, name)
);

create table worker_session (
  id               bigint generated always as identity primary key,
  namespace        smallint not null references namespace,
  secret           bytea not null,
  owner            bigint not null references broker,
  generation       bigint not null default 0,
  worker_name      text not null,
  host             text not null,
  pid              integer not null,
  sdk              text not null,
  queue_patterns   text[] not null,
  task_names       text[] not null,
  capacity         integer not null,
  -- How many leases it executes at once, over all pools, 0 where it does not say; for people.
  slots            integer not null default 0,
  received_through bigint not null default 0,
  draining         boolean not null default false,
  -- What its code said of limits when it began: maxima, and 0 for queues that it declares without one.
  limit_scopes     text[] not null default '{}',
  limit_names      text[] not null default '{}',
  limit_maxima     integer[] not null default '{}',
  limit_rate_counts     integer[] not null default '{}',
  limit_rate_periods_ms bigint[] not null default '{}',
  limit_rate_bursts     integer[] not null default '{}',
  -- The session with which its worker began, if that one and those between have ended: of the limits that
  -- code declares those of the newest worker hold, and a worker does not become newer.
  origin           bigint,
  -- The worker's own word that it wants no more work, apart from an operator's wish (`draining`): whoever
  -- resumes the session must know both, and only the wish is told to the worker.
  self_draining    boolean not null default false,
  started_at       timestamptz not null default now(),
  expires_at       timestamptz not null,
  ended_at         timestamptz,
  end_reason       text
) with (fillfactor = 50);
create index worker_session_alive on worker_session (id) where ended_at is null;

create table task (
  id              uuid not null primary key,
  lane            integer not null,
  rank            smallint not null check (rank between 0 and 9),
  max_retries     integer not null check (max_retries >= 0),
  timeout_ms      bigint check (timeout_ms > 0),
  retry_delay_ms  bigint check (retry_delay_ms >= 0),
  digest          bigint not null,
  payload         bytea not null,
  parent_id       uuid,
  root_id         uuid,
  submitted_at    timestamptz not null default now(),
  content_type    text,
  codec           text,
  idempotency_key text,
  headers         jsonb,
  labels          jsonb,
  expires_at      timestamptz,
  trace_context   bytea check (length(trace_context) = 26),
  -- What it shares its maximum with: the tasks of its queue and name with this key; `key_hash` stands for all three.
  concurrency_key text,
  key_hash        bigint,
  max_per_key     integer check (max_per_key > 0),
  -- For whom it is, where tasks are shared fairly: by its hash it has a lane (`bucket`).
  fair_key        text,
  -- Of what no worker runs: 1 the root of a workflow, 2 what waits for a call from outside.
  kind            smallint check (kind in (1, 2)),
  -- Of a node, for which nodes it waits, and which wait for it; its parent is the root. Of a root, all of its nodes. In both
  -- the last one is first: it is most likely to live still. `workflow` has what else was said of it (domain/workflows.py);
  -- its `edges` only where they say more than `upstreams`.
  upstreams       uuid[],
  downstreams     uuid[],
  workflow        jsonb
) partition by range (id);
-- For people's lookups: a task's children by age, and below, what waits in a queue until a time.
create index task_by_parent on task (parent_id, id) where parent_id is not null;
create index task_by_root on task (root_id, id) where root_id is not null;
-- For lists of workflows' runs. Partial: other tasks pay nothing for it.
create index task_of_workflows on task (id) where kind = 1;
-- For lists by label. Partial: tasks without labels pay nothing for it.
create index task_by_labels on task using gin (labels jsonb_path_ops) where labels is not null;

-- outcome: 2 completed, 3 failed, 4 timed out, 5 cancelled, 6 lost, 7 released (hyrex.v1.RunStatus).
create table task_run (
  task_id        uuid not null,
  run_number     integer not null,
  attempt_number integer not null,
  outcome        smallint not null check (outcome between 2 and 7),
  final          boolean not null check (final or outcome in (3, 4, 6, 7)),
  token          bigint,
  session_id     bigint,
  started_at     timestamptz,
  finished_at    timestamptz not null default now(),
  result         bytea,
  content_type   text,
  error_type     text,
  -- Where in the user's code it was raised, for people and filters.
  error_place    text,
  error_message  text,
  traceback      text,
  reason         text,
  -- Why it is cancelled, where nobody asked for that: 2 purged, 3 expired, 4 skipped (hyrex.v1.CancelCause).
  cause          smallint check (cause is null or outcome = 5),
  primary key (task_id, run_number)
) partition by range (task_id);
create index task_run_by_bad_end on task_run (outcome, task_id) where final and outcome <> 2;
-- Whether something may have to follow from an end: what ran in a followed lane has an odd token (`fresh_tokens` of the
-- broker), and what never ran has none.
create function is_to_follow(final boolean, token bigint) returns boolean
language sql immutable parallel safe
return final and (token is null or token & 1 = 1);
-- For the sweep (sql/follow.sql, `ended`). Runs of plain tasks pay no more than the comparison: they are not in it.
create index task_run_to_follow on task_run (finished_at, task_id) where is_to_follow(final, token);

create table ready (
  task_id        uuid primary key,
  lane           integer not null,
  rank           smallint not null,
  arrival        timestamptz not null,
  run_number     integer not null,
  attempt_number integer not null,
  redeliveries   smallint not null,
  releases       smallint not null,
  alone          boolean not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 1000000,
        autovacuum_analyze_scale_factor = 0.5, autovacuum_vacuum_cost_delay = 0);
-- Partial, though no lane is null: so it is used for lanes only, never to look for a task. Others below are so too.
create index ready_by_turn on ready (lane, rank, arrival, task_id) where lane is not null;

create table delayed (
  task_id        uuid primary key,
  lane           integer not null,
  rank           smallint not null,
  run_at         timestamptz not null,
  run_number     integer not null,
  attempt_number integer not null,
  redeliveries   smallint not null,
  releases       smallint not null,
  alone          boolean not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 1000000,
        autovacuum_analyze_scale_factor = 0.5, autovacuum_vacuum_cost_delay = 0);
create index delayed_by_time on delayed (run_at, task_id) where run_at is not null;
create index delayed_by_lane on delayed (lane, task_id) where lane is not null;

-- A cancel request replaces the row (delete and insert in one statement, same token): see the head.
create table lease (
  task_id        uuid primary key,
  lane           integer not null,
  rank           smallint not null,
  token          bigint not null,
  session_id     bigint not null,
  sequence       bigint not null,
  assigned_at    timestamptz not null,
  deadline       timestamptz,
  run_number     integer not null,
  attempt_number integer not null,
  redeliveries   smallint not null,
  releases       smallint not null,
  alone          boolean not null,
  cancel_at      timestamptz,
  cancel_reason  text
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 1000000,
        autovacuum_analyze_scale_factor = 0.5, autovacuum_vacuum_cost_delay = 0);
create index lease_by_lane on lease (lane);
create index lease_by_session on lease (session_id);
create index lease_by_deadline on lease (deadline) where deadline is not null;
create index lease_to_cancel on lease (session_id, cancel_at) where cancel_at is not null;

-- Tasks that may not run yet, since others have to end first: the fourth live table. By `kind`: 1 is the root of a
-- workflow, which waits for all of its nodes (a cancel request replaces its row, as in `lease`), 2 waits for a call from
-- outside, 3 is a node that waits for others. Those without a kind wait for a seat of their key: `key` and `most` are
-- null until `follow` has looked at the task; then they are the task's, and `turn` is the number of that look: drawn
-- under the lock of its stripe, so that turns of a key only grow. No clock's
-- time does, which may be set back.
create table blocked (
  task_id        uuid primary key,
  lane           integer not null,
  rank           smallint not null,
  kind           smallint check (kind in (1, 2, 3)),
  key            bigint,
  most           integer check ((most is null) = (key is null)),
  -- A task of a schedule that ends at once where its key has no free seat. Whoever looks at it first decides.
  drops          boolean not null default false,
  turn           bigint not null default 0,
  since          timestamptz not null default clock_timestamp(),
  run_number     integer not null,
  attempt_number integer not null,
  redeliveries   smallint not null,
  releases       smallint not null,
  alone          boolean not null,
  cancel_at      timestamptz check (cancel_at is null or kind = 1),
  cancel_reason  text
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 1000000,
        autovacuum_analyze_scale_factor = 0.5, autovacuum_vacuum_cost_delay = 0);
create index blocked_by_key on blocked (key, turn, task_id) where key is not null;
create index blocked_by_lane on blocked (lane, task_id) where lane is not null;
-- What came here and has to be looked at once, whether or not anything ends: by when it came, or was cancelled.
create index blocked_to_follow on blocked (coalesce(cancel_at, since), task_id)
  where (kind is null and key is null) or cancel_at is not null or (kind in (1, 3) and run_number > 0);

-- The tasks that live, by the table that holds each: whatever has no row here has ended, or was never stored. A
-- statement that asks no more than whether a task lives asks this, and so meets each further live table.
create view live as
  select task_id, lane, 'ready' as place, run_number from ready
  union all
  select task_id, lane, 'delayed', run_number from delayed
  union all
  select task_id, lane, 'lease', run_number from lease
  union all
  select task_id, lane, 'blocked', run_number from blocked;

-- Where the heads of `ready` and `delayed` (lane 0) are read from after a restart: under a transaction that is
-- held open, millions of dead rows may stand before the first that lives. Hints, never the only place to look.
create table low_water_mark (
  lane integer not null,
  rank smallint not null,
  mark timestamptz not null,
  primary key (lane, rank)
);

-- Two retries of one end are one retry: whoever inserts first has reopened it.
create table reopen (
  task_id          uuid not null,
  after_run_number integer not null,
  reopened_at      timestamptz not null default now(),
  primary key (task_id, after_run_number)
);

-- Dead letters that somebody has dealt with, by the run that ended badly: a later bad end is another one.
create table dismissal (
  task_id      uuid not null,
  run_number   integer not null,
  who          text not null,
  dismissed_at timestamptz not null default now(),
  primary key (task_id, run_number)
);

create table idempotency (
  namespace smallint not null,
  name      text not null,
  key       text not null,
  task_id   uuid not null,
  primary key (namespace, name, key)
);
create index idempotency_by_task on idempotency (task_id);

-- A task of any age, for a statement that looks itself at the partitions of the last days only: to make ready to
-- look at all of them takes 20 ms where there are a thousand. Planned anew each time, so that one is opened.
create function old_task(wanted uuid) returns setof task
language plpgsql stable
set search_path from current
as $$
begin
  return query execute 'select * from task where id = $1' using wanted;
end
$$;

-- What brokers have counted, in steps of 10 s, and rolled up to 5 minutes. Only inserted and dropped by the day; queue
-- '' is all queues together. `ready` and its neighbours are set by the one broker that looked at depths.
create table stat (
  at        timestamptz not null,
  broker    bigint not null,
  queue     text not null,
  submitted integer not null default 0,
  completed integer not null default 0,
  failed    integer not null default 0,
  timed_out integer not null default 0,
  cancelled integer not null default 0,
  lost      integer not null default 0,
  runs      integer not null default 0,
  -- How many by bucket: the bounds are those of hyrex/runtime/histogram.py (RUN_BOUNDS_US).
  waits     integer[] not null default '{}',
  run_times integer[] not null default '{}',
  run_us    bigint not null default 0,
  ready     integer,
  delayed   integer,
  blocked   integer,
  running   integer,
  oldest_s  real
) partition by range (at);
create index stat_by_queue on stat (queue, at);
create index stat_by_time on stat (at);
create table stat_5min (like stat including all) partition by range (at);

-- Cancels and retries of all tasks that a filter fits. A broker that works on one renews `seen_at`; where none does,
-- any broker takes it up at `cursor`.
create table bulk_operation (
  id         uuid primary key,
  namespace  smallint not null references namespace,
  who        text not null,
  action     text not null check (action in ('cancel', 'retry', 'dismiss')),
  filter     jsonb not null,
  reason     text not null,
  state      text not null default 'running' check (state in ('running', 'done', 'stopped')),
  -- Tasks with ids below this one are still to be looked at.
  cursor     uuid not null,
  matched    bigint not null default 0,
  done       bigint not null default 0,
  owner      bigint,
  seen_at    timestamptz not null default now(),
  started_at timestamptz not null default now(),
  ended_at   timestamptz
);
create index bulk_operation_running on bulk_operation (seen_at) where state = 'running';
create index bulk_operation_by_time on bulk_operation (started_at, id) where started_at is not null;

-- Tasks that are stored again and again, at the slots of a cron expression. `next_at` is the next slot; `due_at` is when
-- it is looked at: later by the jitter, or because its queue was full. `revision` counts edits: a broker stores
-- nothing for a schedule that was edited since it looked. Options are the terms of its tasks.
create table schedule (
  namespace    smallint not null references namespace,
  name         text not null,
  task         text not null,
  queue        text not null,
  cron         text not null,
  tz           text not null,
  payload      bytea not null,
  options      jsonb not null,
  catchup      text not null check (catchup in ('latest', 'all')),
  jitter_s     integer not null check (jitter_s >= 0),
  paused       boolean not null default false,
  source       text not null check (source in ('code', 'operator')),
  next_at      timestamptz not null,
  due_at       timestamptz not null,
  last_slot    timestamptz,
  last_task_id uuid,
  revision     integer not null default 0,
  updated_at   timestamptz not null default now(),
  primary key (namespace, name)
);
create index schedule_due on schedule (due_at) where not paused;

-- What was stored for which slot: the key lets each slot be stored once, whoever tries. Retention removes old ones.
create table schedule_slot (
  namespace smallint not null,
  schedule  text not null,
  slot      timestamptz not null,
  task_id   uuid not null,
  cause     text not null check (cause in ('due', 'missed', 'backfill', 'trigger')),
  stored_at timestamptz not null default now(),
  primary key (namespace, schedule, slot)
);
create index schedule_slot_by_task on schedule_slot (task_id);
create index schedule_slot_by_time on schedule_slot (stored_at);

-- Who may do what. Of a token only a SHA-256 is kept: it has 256 random bits, so nobody finds it by trying, and a
-- slow hash would only cost brokers time. `changed_at`: brokers read what has changed lately (sql/tokens.sql).
create table token (
  id             bigint generated always as identity primary key,
  name           text not null,
  hash           bytea not null unique check (length(hash) = 32),
  ending         text not null,
  scopes         text[] not null,
  queue_patterns text[] not null,
  created_at     timestamptz not null default now(),
  expires_at     timestamptz,
  revoked_at     timestamptz,
  changed_at     timestamptz not null default now()
);
create unique index token_by_name on token (name) where revoked_at is null;
create index token_by_change on token (changed_at);

-- What the brokers of a database share, and nobody else knows: `pages` is the key of page tokens (service/pages.py),
-- `keys` that of the hashes of concurrency keys (engine/submit/keyed.py).
create table shared_secret (
  purpose text primary key,
  secret  bytea not null check (length(secret) = 32)
);
insert into shared_secret
select purpose, sha256(convert_to(gen_random_uuid()::text || gen_random_uuid() || gen_random_uuid(), 'UTF8'))
from unnest(array['pages', 'keys']) as s (purpose);

-- What was done with the rights `admin` and `payload`. Insert-only; retention removes whole days.
create table audit (
  id      bigint generated always as identity primary key,
  at      timestamptz not null default now(),
  who     text not null,
  action  text not null,
  object  text not null,
  details jsonb not null
);
create index audit_by_time on audit (at);
create index audit_by_who on audit (who, id) where who is not null;

-- Partitions are made and removed by functions with their owner's rights, so that a broker's role needs none of
-- them: it may use these and read and write rows (storage/grants.py), and nothing else.
create function make_partition(parent text, day date) returns void
language plpgsql security definer
set search_path from current
set lock_timeout = '2s'
as $$
declare
  child text := parent || '_' || to_char(day, 'YYYYMMDD');
  lower text := lpad(to_hex((extract(epoch from day::timestamp) * 1000)::bigint), 12, '0') || repeat('0', 20);
  upper text := lpad(to_hex((extract(epoch from (day + 1)::timestamp) * 1000)::bigint), 12, '0') || repeat('0', 20);
begin
  if parent in ('stat', 'stat_5min') then
    lower := day || ' 00:00:00+00';
    upper := (day + 1) || ' 00:00:00+00';
  elsif parent not in ('task', 'task_run') then
    raise exception 'no table of days: %', parent;
  end if;
  if to_regclass(child) is null then
    -- LIKE + ATTACH: to create a partition locks the parent.
    execute format('create table %I (like %I including all)', child, parent);
    execute format('alter table %I attach partition %I for values from (%L) to (%L)', parent, child, lower, upper);
  end if;
end
$$;

-- One step: true when the partition was detached, false when its table is gone. Whoever owns the tables detaches
-- concurrently instead, which a function cannot; this one gives way to whoever reads the parent.
create function remove_partition(parent text, day date) returns boolean
language plpgsql security definer
set search_path from current
set lock_timeout = '300ms'
as $$
declare
  child text := parent || '_' || to_char(day, 'YYYYMMDD');
  pending boolean;
begin
  if parent not in ('task', 'task_run', 'stat', 'stat_5min') or day > (now() at time zone 'UTC')::date - 2 then
    raise exception 'no day that may go: % %', parent, day;
  end if;
  select inhdetachpending into pending from pg_inherits
  where inhrelid = to_regclass(child) and inhparent = to_regclass(parent);
  if found then
    execute format('alter table %I detach partition %I %s', parent, child, case when pending then 'finalize' else '' end);
    return true;
  end if;
  execute format('drop table if exists %I', child);
  return false;
end
$$;
revoke all on function make_partition(text, date), remove_partition(text, date) from public;

-- Days of which retention has looked last at what is kept, and which it has copied last (storage/compaction.py).
create table compaction (
  day       date primary key,
  looked_at timestamptz not null default now(),
  copied_at timestamptz
);

-- A day past its term is compacted: what is kept is copied to tables of the same range, which then take the place of the
-- day's. By functions with their owner's rights, as above. `compacted`: the names and the bounds of a day.
create function compacted(day date, out task text, out run text, out kept text, out kept_run text, out lived text,
                          out lower uuid, out upper uuid)
language plpgsql immutable
set search_path from current
as $$
begin
  task := 'task_' || to_char(day, 'YYYYMMDD');
  run := 'task_run_' || to_char(day, 'YYYYMMDD');
  kept := task || '_kept';
  kept_run := run || '_kept';
  lived := task || '_lived';
  lower := (lpad(to_hex((extract(epoch from day::timestamp) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;
  upper := (lpad(to_hex((extract(epoch from (day + 1)::timestamp) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;
end
$$;

-- A portion of a day's tasks by id, and whether each is kept: because it lives, because its tree does (`roots` of trees
-- that live elsewhere), or because its term is not over. `finished` and `bad_ends` say whether the brokers' terms for the day
-- keep what ended well, and what did not; `age` is for how long the day has been over, by which a queue's own terms are judged.
-- `own`: it goes by its queue's term alone.
create function survivors(day date, after uuid, portion integer, finished boolean, bad_ends boolean, age interval, roots uuid[])
returns table (id uuid, kept boolean, own boolean)
language plpgsql stable security definer
set search_path from current
as $$
declare
  names record := compacted(day);
begin
  return query execute format($q$
    with own as materialized (
      select l.id as lane, coalesce(make_interval(days => q.retention_days) <= $5, false) as finished_gone,
             coalesce(make_interval(days => q.dead_letter_days) <= $5, false) as bad_ends_gone
      from queue q join lane l on l.namespace = q.namespace and l.queue = q.name
      where q.retention_days is not null or q.dead_letter_days is not null
    )
    select j.id, j.kept, j.own and not j.kept
    from (
      select t.id, g.by_queue and g.by_brokers is false as own,
             not (g.by_queue or g.by_brokers)
             or (select true from live where live.task_id = t.id limit 1) is not null
             or t.id = any ($6)
             or (t.root_id is not null and (
               t.root_id = any ($6) or (select true from live where live.task_id = t.root_id limit 1) is not null)) as kept
      from (
        -- A node goes when its workflow does, whatever became of the node: a retry needs all of them.
        select task.id, task.root_id, task.lane, case when task.downstreams is not null then task.parent_id end as workflow
        from %I task where task.id > $1 order by task.id limit $2
      ) t
      left join own on own.lane = case when t.workflow is null then t.lane else
        coalesce((select lane from task where task.id = t.workflow limit 1), t.lane) end
      cross join lateral (
        -- How it ended is asked only where that matters.
        select case when $3 = $4 and own.lane is null then true when t.workflow is null then (
          select true from %I r where r.task_id = t.id and r.final and r.outcome in (2, 5)
            and (select true from reopen o where o.task_id = r.task_id and o.after_run_number = r.run_number limit 1) is null
          limit 1) is not null else coalesce((
          select r.outcome in (2, 5) from task_run r where r.task_id = t.workflow and r.final
            and (select true from reopen o where o.task_id = r.task_id and o.after_run_number = r.run_number limit 1) is null
          limit 1), true) end as well offset 0
      ) e
      cross join lateral (
        select case when e.well then not $3 else not $4 end as by_brokers,
               coalesce(case when e.well then own.finished_gone else own.bad_ends_gone end, false) as by_queue offset 0
      ) g
    ) j
  $q$, names.task, names.run) using after, portion, finished, bad_ends, age, roots;
end
$$;

-- Removes what interrupted compactions have left behind.
create function abandon_compactions() returns void
language plpgsql security definer
set search_path from current
set lock_timeout = '2s'
as $$
declare
  name text;
begin
  for name in select c.relname from pg_class c join pg_class p on p.relnamespace = c.relnamespace
    where p.oid = 'task'::regclass and c.relkind = 'r' and c.relowner = p.relowner
      and c.relname ~ '^task(_run)?_[0-9]{8}_(kept|lived)$' loop
    execute format('drop table %I', name);
  end loop;
end
$$;

-- Makes the tables for what is kept of a day, and notes which of its tasks live, and which of their ends were reopened: what
-- is there at the swap and was not noted has moved. By no clock, which may be set back meanwhile.
create function begin_compaction(day date) returns void
language plpgsql security definer
set search_path from current
set lock_timeout = '2s'
as $$
declare
  names record := compacted(day);
begin
  if day > (now() at time zone 'UTC')::date - 2 then
    raise exception 'no day that may go: %', day;
  end if;
  perform abandon_compactions();
  execute format('create table %I (like task including all)', names.kept);
  execute format('create table %I (like task_run including all)', names.kept_run);
  -- With these ATTACH reads no row.
  execute format('alter table %I add constraint of_its_day check (id >= %L and id < %L)', names.kept, names.lower, names.upper);
  execute format('alter table %I add constraint of_its_day check (task_id >= %L and task_id < %L)',
                 names.kept_run, names.lower, names.upper);
  execute format('create table %1$I as select task_id, run_number, false as reopened from live'
                 ' where task_id >= %2$L and task_id < %3$L union all'
                 ' select task_id, after_run_number, true from reopen where task_id >= %2$L and task_id < %3$L',
                 names.lived, names.lower, names.upper);
end
$$;

-- Copies what is kept of a portion, as `survivors` says. Returns the last id of the portion, null at the end.
create function copy_survivors(day date, after uuid, portion integer, finished boolean, bad_ends boolean, age interval,
                               roots uuid[]) returns uuid
language plpgsql security definer
set search_path from current
as $$
declare
  names record := compacted(day);
  last uuid;
begin
  execute format($q$
    with page as materialized (
      select id, kept from survivors($1, $2, $3, $4, $5, $6, $7)
    ), tasks as (
      insert into %I select t.* from page join %I t on t.id = page.id where page.kept
    ), runs as (
      insert into %I select r.* from page join %I r on r.task_id = page.id where page.kept
    )
    select id from page order by id desc limit 1
  $q$, names.kept, names.task, names.kept_run, names.run) into last using day, after, portion, finished, bad_ends, age, roots;
  if last is null then
    execute format('analyze %I, %I', names.kept, names.kept_run);
  end if;
  return last;
end
$$;

-- Puts what is kept of a day in the place of its tables. Under the locks of both parents no statement is under way that
-- names them, so a task moves no further, and none that comes later has an older snapshot. What has moved since the
-- copy began is copied now: tasks that came to life, and those of which a run was recorded. Tables that are
-- vacuumed now keep it from the locks of the parents, for which everybody would wait.
create function swap_compacted(day date) returns integer
language plpgsql security definer
set search_path from current
set lock_timeout = '100ms'
as $$
declare
  names record := compacted(day);
  moved uuid[];
begin
  execute format('lock table %I, %I, %I in access exclusive mode', names.kept, names.kept_run, names.lived);
  execute format('lock table %I, %I in share update exclusive mode', names.task, names.run);
  lock table only task_run, only task in access exclusive mode;
  execute format($q$
    with now_there as materialized (
      select task_id, run_number, false as reopened from live where task_id >= $1 and task_id < $2
      union all
      select task_id, after_run_number, true from reopen where task_id >= $1 and task_id < $2
    )
    select array(
      select task_id from (select * from now_there except select * from %1$I) came
      union
      select task_id from (select * from %1$I except select * from now_there) went)
  $q$, names.lived) into moved using names.lower, names.upper;
  -- With the root of a workflow all of its nodes.
  execute format('select $1 || array(select unnest(t.upstreams) from %I t where t.id = any ($1) and t.kind = 1)', names.task)
    into moved using moved;
  execute format('insert into %I select * from %I where id = any ($1) on conflict do nothing', names.kept, names.task)
    using moved;
  execute format('insert into %I select * from %I where task_id = any ($1) on conflict do nothing', names.kept_run, names.run)
    using moved;
  execute format('alter table task_run detach partition %I', names.run);
  execute format('alter table task detach partition %I', names.task);
  execute format('drop table %I, %I, %I', names.run, names.task, names.lived);
  execute format('alter table %I rename to %I', names.kept_run, names.run);
  execute format('alter table %I rename to %I', names.kept, names.task);
  execute format('alter table task_run attach partition %I for values from (%L) to (%L)', names.run, names.lower, names.upper);
  execute format('alter table task attach partition %I for values from (%L) to (%L)', names.task, names.lower, names.upper);
  execute format('alter table %I drop constraint of_its_day', names.run);
  execute format('alter table %I drop constraint of_its_day', names.task);
  return cardinality(moved);
end
$$;
revoke all on function survivors(date, uuid, integer, boolean, boolean, interval, uuid[]), abandon_compactions(), begin_compaction(date),
  copy_survivors(date, uuid, integer, boolean, boolean, interval, uuid[]), swap_compacted(date) from public;

-- How far runs are that say so, the newest only: for people, so unlogged, and joined to their leases by the token.
create unlogged table run_progress (
  task_id    uuid primary key,
  token      bigint not null,
  done       double precision not null,
  total      double precision,
  text       text not null,
  updated_at timestamptz not null default now()
);

-- The outbox begins.
-- Tasks that callers store in their own transactions, until a broker makes tasks of them (sql/outbox.sql). `xid` is the
-- caller's transaction: a broker goes on from the snapshot of its last look, so it reads no dead rows of the past, and
-- misses nobody who commits late. Rows are never updated: what has to wait is replaced by a row that says why.
create table outbox (
  id          uuid primary key,
  xid         xid8 not null default pg_current_xact_id(),
  task        text not null,
  -- Null: the queue of the task's definition, when it is relayed.
  queue       text,
  payload     bytea not null,
  options     jsonb not null check (jsonb_typeof(options) = 'object'),
  run_at      timestamptz,
  enqueued_at timestamptz not null default clock_timestamp(),
  -- Why it was not relayed yet: its queue is full, or a broker could not make a task of it (and its reason).
  held        text check (held in ('full', 'refused')),
  reason      text,
  held_at     timestamptz
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 1000000,
        autovacuum_analyze_scale_factor = 0.5, autovacuum_vacuum_cost_delay = 0);
create index outbox_by_turn on outbox (xid, id) where held is null;
create index outbox_full on outbox (queue, id) where held = 'full';
create index outbox_refused on outbox (id) where held = 'refused';
create index outbox_refused_by_time on outbox (held_at) where held = 'refused';

-- What applications call. No role but the owner of the schema may, until `hyrex migrate --grant-enqueue-to` makes another
-- role their owner, with whose rights they run then: it may insert into the outbox and nothing else. So their search
-- path has no schema in which anybody could put a function of his own, and they name the table with its schema.
do $make$
begin
  execute replace($function$
create function checked_enqueue_options(options jsonb) returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $body$
declare
  option text;
  value jsonb;
  amount numeric;
  texts_size bigint;
  rule text;
begin
  if jsonb_typeof(options) is distinct from 'object' then
    raise exception 'hyrex: options must be a JSON object, got %', coalesce(left(options::text, 80), 'null')
      using errcode = 'invalid_parameter_value';
  end if;
  for option, value in select * from jsonb_each(options) loop
    rule := null;
    amount := case when jsonb_typeof(value) = 'number' then (value#>>'{}')::numeric end;
    case
      when option = 'priority' then
        if amount is null or amount <> trunc(amount) or amount not between 1 and 10 then
          rule := 'an integer from 1 to 10';
        end if;
      when option = 'max_retries' then
        if amount is null or amount <> trunc(amount) or amount not between 0 and 1000000 then
          rule := 'an integer from 0 to 1000000';
        end if;
      when option in ('timeout_seconds', 'expires_in_seconds') then
        if amount is null or amount < 0.001 or amount > 316224000 then
          rule := 'seconds above 0, at most ten years';
        end if;
      when option in ('delay_seconds', 'retry_delay_seconds') then
        if amount is null or amount not between 0 and 316224000 then
          rule := 'seconds from 0 to ten years';
        end if;
      when option = 'run_at' then
        if jsonb_typeof(value) <> 'string' or value#>>'{}' !~ '^\d{4}-\d\d-\d\d[T ]\d\d:\d\d.*(Z|[+-]\d\d(:?\d\d)?)$' then
          rule := 'a time with its zone, as 2026-01-31T09:00:00Z';
        elsif options ? 'delay_seconds' then
          rule := 'left out where delay_seconds is given';
        end if;
      when option in ('idempotency_key', 'content_type', 'codec', 'parent_id', 'root_id', 'concurrency_key', 'fair_key') then
        if jsonb_typeof(value) <> 'string' or octet_length(value#>>'{}') not between 1 and 255 then
          rule := 'a text of 1 to 255 bytes';
        elsif option in ('parent_id', 'root_id')
              and value#>>'{}' !~* '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$' then
          rule := 'a UUID';
        end if;
      when option = 'max_per_key' then
        if amount is null or amount <> trunc(amount) or amount not between 1 and 1000 then
          rule := 'an integer from 1 to 1000';
        end if;
      when option = 'on_full' then
        if value not in ('"wait"', '"refuse"') then
          rule := 'wait or refuse';
        end if;
      when option = 'trace_context' then
        if jsonb_typeof(value) <> 'string' or value#>>'{}' !~ '^[0-9a-f]{52}$' then
          rule := '26 bytes as hexadecimal digits';
        end if;
      when option in ('headers', 'labels') then
        if jsonb_typeof(value) <> 'object' then
          rule := 'an object of texts';
        elsif exists (select from jsonb_each(value) as t (name, text) where name = '' or jsonb_typeof(text) <> 'string') then
          rule := 'an object of texts, without an empty name';
        else
          select sum(octet_length(name) + octet_length(text)) into texts_size from jsonb_each_text(value) as t (name, text);
          if texts_size > 65536 then
            rule := 'at most 65536 bytes in all';
          end if;
        end if;
      else
        raise exception 'hyrex: no option is called %', quote_literal(left(option, 80))
          using errcode = 'invalid_parameter_value',
                hint = 'Options are priority, max_retries, timeout_seconds, retry_delay_seconds, expires_in_seconds,'
                       ' delay_seconds, run_at, idempotency_key, concurrency_key, max_per_key, on_full, fair_key, headers and labels.';
    end case;
    if rule is not null then
      raise exception 'hyrex: option % must be %, got %', option, rule, left(value::text, 80)
        using errcode = 'invalid_parameter_value';
    end if;
  end loop;
  if (options ? 'max_per_key' or options ? 'on_full') and not options ? 'concurrency_key' then
    raise exception 'hyrex: options max_per_key and on_full are for tasks with a concurrency_key'
      using errcode = 'invalid_parameter_value';
  end if;
end
$body$
$function$, '@schema', quote_ident(current_schema()));

  execute replace($function$
create function enqueue_bytes(
  task text, payload bytea, queue text default null, options jsonb default '{}', task_id uuid default null
) returns uuid
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $body$
declare
  -- The limit of a payload, as senders have it (hyrex/arguments/limits.py).
  most constant integer := 4194304;
  now_ms bigint;
  id_bytes bytea;
  new_id uuid;
  starts timestamptz;
begin
  if task is null or octet_length(task) not between 1 and 255 then
    raise exception 'hyrex: the name of a task must have 1 to 255 bytes, got %', coalesce(quote_literal(left(task, 80)), 'null')
      using errcode = 'invalid_parameter_value';
  end if;
  if octet_length(queue) not between 1 and 255 then
    raise exception 'hyrex: the name of a queue must have 1 to 255 bytes, got %', quote_literal(left(queue, 80))
      using errcode = 'invalid_parameter_value', hint = 'Leave it out for the queue of the task''s definition.';
  end if;
  if payload is null or octet_length(payload) > most then
    raise exception 'hyrex: the payload must have at most % bytes, got %', most, coalesce(octet_length(payload)::text, 'null')
      using errcode = 'invalid_parameter_value', hint = 'Store large content elsewhere and send its address.';
  end if;
  if options is distinct from '{}' then
    perform @schema.checked_enqueue_options(options);
    if options ? 'delay_seconds' then
      starts := clock_timestamp() + (options->>'delay_seconds')::double precision * interval '1 second';
    elsif options ? 'run_at' then
      starts := (options->>'run_at')::timestamptz;
      if starts not between '1970-01-01Z' and '2200-01-01Z' then
        raise exception 'hyrex: option run_at must lie between the years 1970 and 2200, got %', options->>'run_at'
          using errcode = 'invalid_parameter_value';
      end if;
    end if;
  end if;
  now_ms := floor(extract(epoch from clock_timestamp()) * 1000)::bigint;
  if task_id is null then
    -- A UUIDv7: 48 bits of the time in milliseconds, the version, and 74 random bits.
    id_bytes := overlay(uuid_send(gen_random_uuid()) placing substring(int8send(now_ms) from 3) from 1 for 6);
    new_id := encode(set_byte(id_bytes, 6, (get_byte(id_bytes, 6) & 15) | 112), 'hex')::uuid;
  else
    id_bytes := uuid_send(task_id);
    if abs(('x' || encode(substring(id_bytes from 1 for 6), 'hex'))::bit(48)::bigint - now_ms) > 86400000 then
      raise exception 'hyrex: the id % is none of the last or next 24 hours by the clock of the database', task_id
        using errcode = 'invalid_parameter_value', hint = 'Set the clock of the machine that made it.';
    end if;
    new_id := task_id;
  end if;
  insert into @schema.outbox (id, task, queue, payload, options, run_at)
  values (new_id, task, queue, payload, options, starts);
  return new_id;
end
$body$
$function$, '@schema', quote_ident(current_schema()));

  execute replace($function$
create function enqueue(task text, payload jsonb default '{}', queue text default null, options jsonb default '{}') returns uuid
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $body$
begin
  if jsonb_typeof(payload) is distinct from 'object' then
    raise exception 'hyrex: the payload must be a JSON object of the task''s arguments by name, got %',
      coalesce(left(payload::text, 80), 'null') using errcode = 'invalid_parameter_value';
  end if;
  return @schema.enqueue_bytes(task, convert_to(payload::text, 'UTF8'), queue, options);
end
$body$
$function$, '@schema', quote_ident(current_schema()));
end
$make$;
revoke all on function checked_enqueue_options(jsonb), enqueue_bytes(text, bytea, text, jsonb, uuid),
  enqueue(text, jsonb, text, jsonb) from public;
-- The outbox ends.

-- What a row of the outbox has that no task may have and no other guard finds: 'run_at' or 'enqueued_at' where that is no
-- time of the years 1970 to 2200, 'texts' where its headers or labels are none. `enqueue` lets none of it in, but whoever may
-- write to the table can. A task of such a row could be neither shown nor assigned, with all that are read together with it.
create function unfit(o outbox) returns text
language sql stable
as $$
  select case
    when o.run_at is not null and o.run_at not between '1970-01-01Z' and '2200-01-01Z' then 'run_at'
    when o.enqueued_at not between '1970-01-01Z' and '2200-01-01Z' then 'enqueued_at'
    when o.options ?| array['headers', 'labels'] and o.options @? 'strict $.keyvalue() ? (@.key == "headers" || @.key == "labels").value
      ? (@.type() != "object" || exists (@.* ? (@.type() != "string")))' then 'texts'
  end
$$;

-- Rows that were carried here from the outbox of a database beside this one (sql/beside.sql), until they are known to be
-- there no more: one whose removal there was interrupted comes again.
create table carried (
  id         uuid primary key,
  carried_at timestamptz not null default now()
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 1000000,
        autovacuum_analyze_scale_factor = 0.5, autovacuum_vacuum_cost_delay = 0);
create index carried_by_time on carried (carried_at, id) where carried_at is not null;

-- When to look at tasks that may expire while they wait. Assigns judge by `task.expires_at`; this is for what nobody
-- assigns. A row goes when its time has come: nothing has to remove it when its task ends.
create table expiry (
  look_at    timestamptz not null,
  task_id    uuid not null,
  expires_at timestamptz not null,
  primary key (look_at, task_id)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 1000000,
        autovacuum_analyze_scale_factor = 0.5, autovacuum_vacuum_cost_delay = 0);

-- When the tokens of a rate are all there again, if it is not used until then. Each assign inserts a row under the
-- limit's lock and deletes the one before: the newest counts, and is found at the end of the index, however many dead
-- ones a transaction that is held open keeps. A row that is updated would be searched for among its dead versions.
create table rate_use (
  id        bigint generated always as identity,
  namespace smallint not null,
  scope     text not null,
  name      text not null,
  full_at   timestamptz not null,
  primary key (namespace, scope, name, id)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);

-- Limits with a rate, and when each may assign a run again: null if it was never used. A time further off than it
-- takes to fill an empty bucket was written before the clock was set back, or under another rate.
create view limit_rate as
  select c.namespace, c.scope, c.name, c.rate_count, c.rate_period_ms, c.rate_burst,
         case when u.full_at is not null then
           least(u.full_at - (c.rate_burst - 1) * t.token, now() + t.token) end as next_at
  from concurrency_limit c
  cross join lateral (select c.rate_period_ms::float8 / c.rate_count * interval '1 millisecond' as token) t
  left join lateral (
    select full_at from rate_use r
    where r.namespace = c.namespace and r.scope = c.scope and r.name = c.name
    order by r.namespace desc, r.scope desc, r.name desc, r.id desc limit 1
  ) u on true
  where c.rate_count is not null;

-- Which task waits for a debounce key, and until when at the most. Whoever sends one locks its row first, so that of two
-- senders one stores the task and the other moves it. Keys belong to (queue, name): who may send to one queue moves
-- nothing of another. Goes with the day of its task.
create table debounce (
  namespace smallint not null,
  queue     text not null,
  name      text not null,
  key       text not null,
  task_id   uuid not null,
  latest_at timestamptz,
  primary key (namespace, queue, name, key)
);
create index debounce_by_task on debounce (task_id);

-- Takes the keys of tasks that are sent: a task that waits for its first run moves to its new time, else the sent one waits.
-- Returns for each that is to be stored its id, and for each that is not also the holder, and whether that has another
-- payload. Nothing for an id that is stored already. A function, since what locks before it looks needs a snapshot of
-- later (rule 25). Locks keys in order; a task that somebody else has locked is about to leave, so it is passed over.
-- However many are sent together with one key, its holder is read once and moved once, for the last of them.
-- Each row that is written is one in the way of the next send for as long as a transaction is held open. So a key that is
-- there is locked and not updated, and a task is moved a little further than it must be (by a 64th of its wait, a second
-- at most): the sends of that time need not move it again.
-- Where nothing is to be stored (`stores`), what moves nothing is left out, and its key as it is.
create function take_debounce_keys(
  ids uuid[], lanes integer[], ranks smallint[], payloads bytea[], delays_ms bigint[], most_ms bigint[],
  queues text[], names text[], keys text[], stores boolean default true
) returns table (id uuid, holder uuid, differs boolean)
language plpgsql
set search_path from current
as $$
#variable_conflict use_column
declare
  item record;
  held record;
  place tid;  -- of the row that moves; null if it is a new one
  waits_to timestamptz;
  in_lane integer;
  at_rank smallint;
  waiting uuid;
  waiting_payload bytea;
  waiting_until timestamptz;
  begun_anew interval;
  due timestamptz;
  slack interval;
begin
  for item in
    select t.*, t.delay_ms * interval '1 millisecond' as wait, t.most_ms * interval '1 millisecond' as most,
           row_number() over same = 1 as is_first, lead(t.id) over same is null as is_last
    from unnest(ids, lanes, ranks, payloads, delays_ms, most_ms, queues, names, keys)
      as t (id, lane, rank, payload, delay_ms, most_ms, queue, name, key)
    window same as (partition by t.queue, t.name, t.key order by t.id)
    order by t.queue, t.name, t.key, t.id
  loop
    if item.is_first then
      waiting := null;
      begun_anew := null;
      loop
        select d.task_id, d.latest_at into held from debounce d
        where d.namespace = 0 and d.queue = item.queue and d.name = item.name and d.key = item.key
        for update;
        exit when found or not stores;
        insert into debounce as d (namespace, queue, name, key, task_id, latest_at)
        values (0, item.queue, item.name, item.key, item.id, now() + item.most)
        on conflict (namespace, queue, name, key) do nothing
        returning d.task_id, d.latest_at into held;
        exit when found;
      end loop;
    end if;
    if exists (select from task where task.id = item.id) then
      null;
    elsif waiting is not null then
      begun_anew := item.wait;
      return query select item.id, waiting, item.payload <> waiting_payload;
    else
      select ctid, lane, rank, run_at into place, in_lane, at_rank, waits_to from delayed
      where held.task_id <> item.id and delayed.task_id = held.task_id
        and run_number = 0 and releases = 0 and redeliveries = 0
      for update skip locked;
      if found then
        waiting := held.task_id;
        waiting_payload := (select task.payload from task where task.id = held.task_id);
        waiting_until := held.latest_at;
        begun_anew := item.wait;
        return query select item.id, waiting, item.payload <> waiting_payload;
      elsif stores then
        waiting := item.id;
        waiting_payload := item.payload;
        waiting_until := now() + item.most;
        in_lane := item.lane;
        at_rank := item.rank;
        begun_anew := item.wait;
        update debounce set task_id = waiting, latest_at = waiting_until
        where namespace = 0 and debounce.queue = item.queue and debounce.name = item.name and debounce.key = item.key
          and debounce.task_id <> waiting;
        return query select item.id, null::uuid, null::boolean;
      end if;
    end if;
    if item.is_last and begun_anew is not null then
      due := least(now() + begun_anew, waiting_until);
      slack := case when place is null then interval '0' else least(begun_anew / 64, interval '1 second') end;
      if place is null or waits_to not between due and due + slack then
        delete from delayed where ctid = place;
        insert into delayed (task_id, lane, rank, run_at, run_number, attempt_number, redeliveries, releases, alone)
        values (waiting, in_lane, at_rank, greatest(least(due + slack, waiting_until), now()), 0, 0, 0, 0, false);
      end if;
    end if;
  end loop;
end
$$;

-- Of slots of a schedule up to this one it may be forgotten that they had their tasks: they are not filled any more. It
-- outlives the schedule by what tasks are kept for, since another one of its name would fill them again: `left_at` is when
-- it was first found to be gone.
create table forgotten_slots (
  namespace smallint not null,
  schedule  text not null,
  through   timestamptz not null,
  left_at   timestamptz,
  primary key (namespace, schedule)
);

-- The right of a task to be one of those of its key that run, from before it is ready until its end. Of a task that
-- has ended it counts for nothing, whether or not it has been removed. `turn` is the number of the look that gave it.
-- The marks are what that look knew: no seat of the key that counts has a turn before `seats_from`, and none of its
-- tasks that wait has one before `turns_from`.
create table seat (
  task_id    uuid primary key,
  key        bigint not null,
  turn       bigint not null,
  seats_from bigint not null,
  turns_from bigint not null,
  taken_at   timestamptz not null default clock_timestamp()
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 1000000,
        autovacuum_analyze_scale_factor = 0.5, autovacuum_vacuum_cost_delay = 0);
create index seat_by_key on seat (key, turn);

-- Numbers of looks; so many lie between two that each task of a look can have a turn of its own.
create sequence look increment by 1000000;

-- The locks of keys: a key's is the stripe that the last ten bits of its hash name. Rows that are made and removed
-- with their key would let two admissions go on side by side.
create table stripe (
  id smallint primary key
);
insert into stripe select generate_series(0, 1023);

-- Locks the stripes of keys, in order. The caller's next statement sees what was committed under them.
create function lock_stripes(keys bigint[]) returns void
language plpgsql
set search_path from current
as $$
begin
  perform from stripe
  where id = any (array(select distinct (key & 1023)::smallint as id from unnest(keys) as k (key) order by 1))
  order by id
  for update;
end
$$;

-- The seats that count: those of tasks that are ready, run, or wait for their next attempt.
create view holding as
  select s.key, s.turn, s.task_id, s.taken_at from seat s
  where coalesce((select true from lease where lease.task_id = s.task_id limit 1),
                 (select true from ready where ready.task_id = s.task_id limit 1),
                 (select true from delayed where delayed.task_id = s.task_id limit 1), false);

-- Goes on from the ends of tasks in followed lanes, and from tasks that were put into `blocked`: removes the seats of
-- what has ended, and gives free ones to those that have waited longest. `ids` are those tasks, `more` are keys to look
-- at besides. It may be called at any time and for any task: what is not due stays as it is. Returns what became ready, and,
-- without a rank, what ended since it was to have a seat at once.
-- Locks stripes in order, then rows of `blocked` in id order; nothing else.
create function follow(ids uuid[], more bigint[])
returns table (moved uuid, into_lane integer, at_rank smallint)
language plpgsql
set search_path from current
-- A plan made while the tables are small would read all of them when they are large.
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  look bigint;
  fresh uuid[];
  seated uuid[];
  keys bigint[];
  seats_from bigint[];
  turns_from bigint[];
  held integer[];
  moves record;
begin
  fresh := array(
    select b.task_id from blocked b where b.task_id = any (ids) and b.key is null and b.kind is null order by 1);
  select array_agg(s.task_id), array_agg(s.key), array_agg(s.seats_from), array_agg(s.turns_from)
    into seated, keys, seats_from, turns_from
  from seat s where s.task_id = any (ids);
  select array_agg(k.key), array_agg(k.seats_from), array_agg(k.turns_from) into keys, seats_from, turns_from
  from (
    select f.key, max(f.seats_from) as seats_from, max(f.turns_from) as turns_from
    from (
      select s.key, s.seats_from, s.turns_from from unnest(keys, seats_from, turns_from) as s (key, seats_from, turns_from)
      union all
      select b.key, 0, 0 from blocked b where b.task_id = any (ids) and b.key is not null
      union all
      select t.key_hash, 0, 0 from task t
      where t.id = any (fresh) and t.id between fresh[1] and fresh[cardinality(fresh)] and t.key_hash is not null
      union all
      select m.key, 0, 0 from unnest(more) as m (key)
    ) f
    group by f.key
  ) k;
  perform lock_stripes(keys);
  look := nextval('look');
  if fresh <> '{}' then
    return query select * from enter(fresh, look);
  end if;
  -- The stripes of all of these are locked: nobody gives such a task its seat anew meanwhile.
  delete from seat s where s.task_id = any (seated)
    and coalesce((select true from lease where lease.task_id = s.task_id limit 1),
                 (select true from ready where ready.task_id = s.task_id limit 1),
                 (select true from delayed where delayed.task_id = s.task_id limit 1)) is null;
  -- Of most keys nobody waits for a seat.
  select array_agg(k.key), array_agg(h.held), array_agg(coalesce(h.oldest, look)), array_agg(k.turns_from)
    into keys, held, seats_from, turns_from
  from unnest(keys, seats_from, turns_from) as k (key, seats_from, turns_from)
  cross join lateral (
    select from blocked where blocked.key = k.key and blocked.turn >= k.turns_from limit 1
  ) w
  cross join lateral (
    select count(*)::integer as held, min(turn) as oldest from holding
    where holding.key = k.key and holding.turn >= k.seats_from
  ) h;
  while keys is not null loop
    with chosen as materialized (
      select w.task_id, k.held, k.seats_from
      from unnest(keys, held, seats_from, turns_from) as k (key, held, seats_from, turns_from)
      cross join lateral (
        select most - k.held as free from blocked
        where blocked.key = k.key and blocked.turn >= k.turns_from order by turn, task_id limit 1
      ) head
      cross join lateral (
        -- Who came later never goes before whoever has to wait.
        select b.task_id, bool_and(k.held + b.nth <= b.most) over (order by b.nth) as fits
        from (
          select task_id, most, row_number() over (order by turn, task_id) as nth
          from blocked where blocked.key = k.key and blocked.turn >= k.turns_from
          order by turn, task_id limit greatest(least(head.free, 1000), 0)
        ) b
      ) w
      where w.fits order by w.task_id
    ), released as (
      delete from blocked b using chosen c where b.task_id = c.task_id
      returning b.*, c.held, c.seats_from
    ), seated as (
      insert into seat (task_id, key, turn, seats_from, turns_from)
      select r.task_id, r.key, look, r.seats_from, r.turn from released r order by r.task_id
      on conflict (task_id) do update
      set turn = excluded.turn, taken_at = excluded.taken_at, seats_from = excluded.seats_from, turns_from = excluded.turns_from
    ), queued as (
      insert into ready (task_id, lane, rank, arrival, run_number, attempt_number, redeliveries, releases, alone)
      select r.task_id, r.lane, r.rank, now(), r.run_number, r.attempt_number, r.redeliveries, r.releases, r.alone
      from released r order by r.task_id
    )
    select array_agg(r.task_id) as ids, array_agg(r.lane) as lanes, array_agg(r.rank) as ranks,
           array_agg(r.key) as keys, array_agg(r.held) as held, array_agg(r.seats_from) as seats_from,
           array_agg(r.turn) as turns
      into moves from released r;
    return query select * from unnest(moves.ids, moves.lanes, moves.ranks);
    -- One with a greater maximum may stand behind them.
    select array_agg(k.key), array_agg(k.held), array_agg(k.seats_from), array_agg(k.turn)
      into keys, held, seats_from, turns_from
    from (
      select m.key, max(m.held) + count(*)::integer as held, min(m.seats_from) as seats_from, max(m.turn) as turn
      from unnest(moves.keys, moves.held, moves.seats_from, moves.turns) as m (key, held, seats_from, turn)
      group by m.key
    ) k;
  end loop;
  if fresh <> '{}' then
    return query
      with dropped as (
        delete from blocked b where b.task_id = any (fresh) and b.drops returning b.*
      ), recorded as (
        insert into task_run (task_id, run_number, attempt_number, outcome, final, reason, cause)
        select d.task_id, d.run_number, d.attempt_number, 5, true, 'its concurrency key was busy', 6
        from dropped d order by d.task_id
      )
      select d.task_id, d.lane, null::smallint from dropped d;
  end if;
end
$$;

-- Makes tasks that were put into `blocked` (ids in order) wait for their key; what has none is ready. Under their stripes.
create function enter(fresh uuid[], look bigint)
returns table (moved uuid, into_lane integer, at_rank smallint)
language sql
set search_path from current
as $$
  with left_it as (
    delete from blocked b using (
      select t.id, t.key_hash, t.max_per_key from task t
      where t.id = any ($1) and t.id between $1[1] and $1[cardinality($1)] order by t.id
    ) t
    where b.task_id = t.id and b.key is null and b.kind is null
    returning b.*, t.key_hash, t.max_per_key
  ), again as (
    insert into blocked (task_id, lane, rank, key, most, drops, turn, run_number, attempt_number, redeliveries, releases, alone)
    select task_id, lane, rank, key_hash, max_per_key, drops,
           $2 + row_number() over (partition by key_hash order by task_id) - 1,
           run_number, attempt_number, redeliveries, releases, alone
    from left_it where key_hash is not null order by task_id
  )
  insert into ready (task_id, lane, rank, arrival, run_number, attempt_number, redeliveries, releases, alone)
  select task_id, lane, rank, now(), run_number, attempt_number, redeliveries, releases, alone
  from left_it where key_hash is null order by task_id
  returning task_id, lane, rank
$$;

-- What becomes of the next task of a key in a batch, as if it had come alone: `state` has how many were admitted before it,
-- whether one of them waits (1), and the answer for the last one: 1 ready, 2 blocked, 3 refused.
create function admit_next(state integer[], held integer, most integer, refuses boolean, waits boolean) returns integer[]
language plpgsql immutable
as $$
begin
  return case
    when state[2] = 0 and not waits and held + state[1] < most then array[state[1] + 1, 0, 1]
    when refuses then array[state[1], state[2], 3]
    else array[state[1], 1, 2]
  end;
end
$$;
create aggregate admit_in_turn(held integer, most integer, refuses boolean, waits boolean) (
  sfunc = admit_next, stype = integer[], initcond = '{0,0,0}'
);

-- Locks the stripes of keys as `lock_stripes` does, unless others hold some of them for longer than a moment, however many
-- of them there are. A time limit for locks counts for each wait anew, so each has what the ones before it have left.
create function try_stripes(keys bigint[]) returns boolean
language plpgsql
set search_path from current
set lock_timeout = '50ms'
as $$
declare
  ends_at timestamptz := clock_timestamp() + interval '50 milliseconds';
begin
  begin
    perform from stripe  -- mostly nobody holds one
    where id = any (array(select distinct (key & 1023)::smallint as id from unnest(keys) as k (key) order by 1))
    order by id
    for update nowait;
    return true;
  exception when lock_not_available then
  end;
  begin
    -- A row's columns are computed before it is locked.
    perform set_config(
      'lock_timeout', greatest(ceil(extract(epoch from ends_at - clock_timestamp()) * 1000), 1)::text, true)
    from stripe
    where id = any (array(select distinct (key & 1023)::smallint as id from unnest(keys) as k (key) order by 1))
    order by id
    for update;
    return true;
  exception when lock_not_available then
    return false;
  end;
end
$$;

-- Admits tasks that are about to be stored (arrays in id order): with a seat where their key has one free and nobody
-- waits for it, else into `blocked`, or not at all where they refuse to wait. Answers for each: 1 it has a seat and is the
-- caller's to make ready or to lease, 2 blocked, 3 refused, and if any is refused who has its seat. Lanes, ranks and maxima
-- are of one entry if all share it; `refusing` is null if none does.
-- `froms` are marks that earlier calls have answered, of each task's key: no seat of the key that counts has a turn before
-- it, and none of its tasks that wait. Turns only grow, so a mark stays true, whoever has it for however long; without one
-- (0) all rows that the key has ever had are passed while a transaction is held open. One above all turns is of a time that
-- a failover has lost, and not looked at.
-- Locks stripes in order. If it is not `patient`, and one of them is held for longer than a moment, it admits nothing, and
-- its answers are null: whoever keeps slots for tasks must not do so for as long as that (rule 42).
create function admit(ids uuid[], lanes integer[], ranks smallint[], keys bigint[], mosts integer[], refusing boolean[],
                      froms bigint[], patient boolean, out admissions smallint[], out holders uuid[], out marks bigint[])
language plpgsql
set search_path from current
-- A plan made while the tables are small would read all of them when they are large.
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  look bigint;
begin
  if patient then
    perform lock_stripes(keys);
  elsif not try_stripes(keys) then
    return;
  end if;
  look := nextval('look');
  with known as materialized (
    -- What is known of a key stands with its first task.
    select i.id, i.lane, i.rank, i.key, coalesce(i.most, mosts[1]) as most, i.refuses, i.place, i.nth,
           first_value(k.held) over each_key as held, first_value(k.oldest) over each_key as oldest,
           first_value(k.first_waiting) over each_key as first_waiting,
           first_value(k.first_waiting is not null) over each_key as waits
    from (
      select u.*, case when u.mark <= look then u.mark else 0 end as since,
             row_number() over (partition by u.key order by u.place) as nth
      from unnest(ids, lanes, ranks, keys, mosts, refusing, froms) with ordinality
        as u (id, lane, rank, key, most, refuses, mark, place)
    ) i
    left join lateral (
      select count(*)::integer as held, min(turn) as oldest,
             (select blocked.turn from blocked where blocked.key = i.key and blocked.turn >= i.since
              order by blocked.turn limit 1) as first_waiting
      from holding where holding.key = i.key and holding.turn >= i.since
    ) k on i.nth = 1
    window each_key as (partition by i.key order by i.place)
  ), judged as materialized (
    select k.id, k.lane, k.rank, k.key, k.most, k.oldest, k.first_waiting, k.place, k.nth,
           case when not k.waits and bool_and(k.held + k.nth <= k.most) over (partition by k.key order by k.place) then 1
             else 2 end::smallint as admission
    from known k where refusing is null
    union all
    select k.id, k.lane, k.rank, k.key, k.most, k.oldest, k.first_waiting, k.place, k.nth,
           (admit_in_turn(k.held, k.most, k.refuses, k.waits) over (partition by k.key order by k.place))[3]::smallint
    from known k where refusing is not null
  ), seated as (
    insert into seat (task_id, key, turn, seats_from, turns_from)
    select j.id, j.key, look, coalesce(j.oldest, look), look from judged j where admission = 1 order by j.id
  ), waiting as (
    insert into blocked (task_id, lane, rank, key, most, turn, run_number, attempt_number, redeliveries, releases, alone)
    -- Each has a turn of its own: a mark among equal ones would be none. The next look is later than the last of them.
    select j.id, coalesce(j.lane, lanes[1]), coalesce(j.rank, ranks[1]), j.key, j.most, look + j.nth - 1, 0, 0, 0, 0, false
    from judged j where admission = 2 order by j.id
  )
  select array_agg(j.admission order by j.place),
         array_agg(case when j.nth = 1 then least(coalesce(j.oldest, look), coalesce(j.first_waiting, look)) end order by j.place)
    into admissions, marks
  from judged j;
  if refusing is not null and 3 = any (admissions) then
    if exists (
      select from unnest(ids, admissions) as i (id, admission)
      where i.admission = 3 and (select true from task where task.id = i.id limit 1)
    ) then
      -- Stored by another statement while this one waited: it would be refused for its own seat.
      raise unique_violation using message = 'a task that would be refused is stored already';
    end if;
    holders := array(
      select case when i.admission = 3 then coalesce(
        (select h.task_id from holding h where h.key = i.key order by h.turn limit 1),
        -- Of this batch: the caller has not placed it yet.
        (select s.task_id from seat s where s.key = i.key and s.turn = look order by s.task_id limit 1),
        (select b.task_id from blocked b where b.key = i.key order by b.turn, b.task_id limit 1)) end
      from unnest(keys, admissions) with ordinality as i (key, admission, place) order by i.place);
    -- They are not stored: a later task may have their idempotency keys.
    delete from idempotency where idempotency.task_id = any (array(
      select i.id from unnest(ids, admissions) as i (id, admission) where i.admission = 3));
  end if;
end
$$;

-- What the ends before these nodes and roots say, edge by edge: for each, in their order, how many of them were bad for it,
-- how many bytes of results it is given, and the names of the first bad ones. `upstream_ids` are all tasks before them, in
-- order, `ended_ids` those that have an end, with their last outcomes, the causes of these and the sizes of results.
create function ends_before(waiters uuid[], upstream_ids uuid[], ended_ids uuid[], outcomes smallint[], causes smallint[],
                            sizes integer[])
returns table (bad bigint, bytes bigint, names text)
language plpgsql stable
set search_path from current
-- 20,000 edges may meet 1,000 ends. Tables are read by index nevertheless: the joins are of what was read.
set enable_hashjoin = on
set enable_nestloop = off
as $$
begin
  return query
  with edges as materialized (
    select t.id as waits, unnest(t.upstreams) as id, -generate_subscripts(t.upstreams, 1) as place, false as anyway, false as bound
    from task t
    where t.id = any (waiters) and t.id between waiters[1] and waiters[cardinality(waiters)] and not t.workflow ? 'edges'
    union all
    select s.waits, (s.said->>1)::uuid, (s.said->>0)::integer, s.said->>3 = '1', s.said->>2 <> ''
    from (
      select t.id as waits, jsonb_array_elements(t.workflow->'edges') as said from task t
      where t.id = any (waiters) and t.id between waiters[1] and waiters[cardinality(waiters)]
    ) s
  ), met as materialized (
    select e.waits, e.id, e.bound, e.place, r.cause, r.size, r.outcome is distinct from 2 and not e.anyway as is_bad,
           case when r.cause = 4 then 'skipped'
             else (array['completed', 'failed', 'timed out', 'cancelled', 'lost', 'lost'])[r.outcome - 1] end as word
    from edges e
    left join unnest(ended_ids, outcomes, causes, sizes) as r (id, outcome, cause, size) on r.id = e.id
  ), counted as (
    select m.waits, count(*) filter (where m.is_bad) as bad, coalesce(sum(m.size) filter (where m.bound), 0) as bytes
    from met m group by m.waits
  ), named as (
    select f.waits, string_agg(format('%s (%s)', f.name, f.word), ', ' order by f.nth) as names
    from (
      select n.*, (
        select task.workflow->>'node' from task
        where task.id = n.id and task.id between upstream_ids[1] and upstream_ids[cardinality(upstream_ids)] limit 1) as name
      from (
        select m.waits, m.id, m.word, row_number() over (partition by m.waits order by m.cause is not null, m.place) as nth
        from met m where m.is_bad
      ) n
      where n.nth <= 10
    ) f
    group by f.waits
  )
  select c.bad, c.bytes, f.names
  from unnest(waiters) with ordinality as w (id, place)
  left join counted c on c.waits = w.id
  left join named f on f.waits = w.id
  order by w.place;
end
$$;

-- Decides what has nothing to wait for any more, in workflows of which tasks have ended, or were put into `blocked`: a
-- node goes on or is skipped, a root ends. `ids` are those tasks, in order; it may be called at any time and for any: what
-- is not due stays as it is. It looks once without locks, then again under those of what is due: a retry that puts a
-- node back has locked what waits for it (sql/workflows.sql, `retry`). Locks rows of `blocked` in id order; nothing else.
-- Returns what became of each: 1 ready, 2 blocked until `follow` has looked at its key, 3 delayed, 4 waits for a call from
-- outside, 9 it lives and is to be cancelled (its workflow is, or is given up), 10 + the outcome: it has ended.
-- `most_bytes`: what a payload may have, and with it the results that a node is given.
-- Each list of upstreams is looked at once, however many nodes have it, and single edges only where a node needs more
-- than that all of its upstreams completed.
create function advance(ids uuid[], most_bytes bigint)
returns table (decided uuid, became smallint, into_lane integer, at_rank smallint)
language plpgsql
set search_path from current
as $$
declare
  waiting uuid[];
  due uuid[];
  stopped uuid[];
  upstream_ids uuid[];
  ended_ids uuid[];
  outcomes smallint[];
  causes smallint[];
  sizes integer[];
  by_edge boolean;
  bad_ends bigint[];
  bytes_given bigint[];
  bad_names text[];
begin
  waiting := array(
    select w.id from (
      select unnest(t.downstreams || t.parent_id) as id from task t
      where t.id = any (ids) and t.id between ids[1] and ids[cardinality(ids)] and t.downstreams is not null
      union
      select i.id from unnest(ids) as i (id)
    ) w
    where (select true from blocked b where b.task_id = w.id and b.kind in (1, 3) limit 1)
    order by 1);
  if waiting = '{}' then
    return;
  end if;
  due := array(
    select unnest(g.waiters)
    from (
      select t.upstreams, array_agg(t.id) as waiters from task t
      where t.id = any (waiting) and t.id between waiting[1] and waiting[cardinality(waiting)]
      group by t.upstreams
    ) g
    -- The first ones are most likely to live: of most lists no more is looked at.
    where (select true from live where live.task_id = any (g.upstreams[1:4]) limit 1) is null
      and (cardinality(g.upstreams) <= 4 or (select true from live where live.task_id = any (g.upstreams) limit 1) is null)
    order by 1);
  stopped := array(
    select b.task_id from blocked b
    cross join lateral (
      select workflow from task
      where task.id = b.task_id and task.id between waiting[1] and waiting[cardinality(waiting)] limit 1
    ) t
    where b.task_id = any (waiting) and b.kind = 1 and (b.cancel_at is not null or t.workflow ? 'fail_fast')
    order by 1);
  if stopped <> '{}' then
    return query select * from given_up(stopped);
  end if;
  -- Only what it has the lock of: a cancel may have put another row in the place of a root's while this waited.
  due := array(
    select b.task_id from blocked b where b.task_id = any (due) and b.kind in (1, 3) order by b.task_id for update);
  if due = '{}' then
    return;
  end if;
  with dead as materialized (
    select * from (
      select t.upstreams, array_agg(t.id) as waiters, bool_or(t.workflow ? 'binds') as by_edge from task t
      where t.id = any (due) and t.id between due[1] and due[cardinality(due)]
      group by t.upstreams
    ) g
    where (select true from live where live.task_id = any (g.upstreams) limit 1) is null
  )
  select array(select unnest(d.waiters) from dead d order by 1), array(select distinct unnest(d.upstreams) from dead d order by 1),
         (select bool_or(d.by_edge) from dead d)
    into due, upstream_ids, by_edge;
  if due = '{}' then
    return;
  end if;
  select array_agg(r.task_id order by r.task_id), array_agg(r.outcome order by r.task_id),
         array_agg(r.cause order by r.task_id), array_agg(r.size order by r.task_id)
    into ended_ids, outcomes, causes, sizes
  from (
    select distinct on (task_run.task_id) task_run.task_id, task_run.outcome, task_run.cause,
           octet_length(task_run.result) as size
    from task_run
    where task_run.task_id = any (upstream_ids)
      and task_run.task_id between upstream_ids[1] and upstream_ids[cardinality(upstream_ids)]
    order by task_run.task_id, task_run.run_number desc
  ) r;
  if by_edge or ended_ids is distinct from upstream_ids or not 2 = all (outcomes) then
    select array_agg(e.bad), array_agg(e.bytes), array_agg(e.names) into bad_ends, bytes_given, bad_names
    from ends_before(due, upstream_ids, ended_ids, outcomes, causes, sizes) e;
  end if;
  return query
  with judged as materialized (
    select b.*, t.kind as task_kind, t.workflow, d.bad, d.bytes, d.names,
           case
             when b.kind = 1 then 10 + case when coalesce(d.bad, 0) = 0 then 2 when b.cancel_at is not null then 5 else 3 end
             when d.bad > 0 then 15
             when d.bytes + t.size > most_bytes then 13
             when t.kind = 2 then 4
             -- A retry runs at once.
             when b.run_number = 0 and (
               t.workflow ? 'delay_ms' or to_timestamp((t.workflow->>'run_at_ms')::float8 / 1000) > now()) then 3
             when t.key_hash is not null then 2
             else 1
           end::smallint as decision
    from unnest(due, bad_ends, bytes_given, bad_names) as d (id, bad, bytes, names)
    cross join lateral (select * from blocked where task_id = d.id and blocked.kind in (1, 3) limit 1) b
    cross join lateral (
      select task.kind, task.workflow, task.key_hash, octet_length(task.payload) as size from task
      where task.id = d.id and task.id between due[1] and due[cardinality(due)] limit 1
    ) t
  ), left_it as (
    -- They are locked: what was judged is what leaves.
    delete from blocked where task_id = any (array(select task_id from judged)) returning task_id
  ), queued as (
    insert into ready (task_id, lane, rank, arrival, run_number, attempt_number, redeliveries, releases, alone)
    select task_id, lane, rank, now(), run_number, attempt_number, redeliveries, releases, alone
    from judged where decision = 1 order by task_id
  ), later as (
    insert into delayed (task_id, lane, rank, run_at, run_number, attempt_number, redeliveries, releases, alone)
    select task_id, lane, rank,
           greatest(now() + coalesce((workflow->>'delay_ms')::bigint, 0) * interval '1 millisecond',
                    to_timestamp((workflow->>'run_at_ms')::float8 / 1000)),
           run_number, attempt_number, redeliveries, releases, alone
    from judged where decision = 3 order by task_id
  ), again as (
    insert into blocked (task_id, lane, rank, kind, run_number, attempt_number, redeliveries, releases, alone)
    select task_id, lane, rank, case when decision = 4 then 2 end, run_number, attempt_number, redeliveries, releases, alone
    from judged where decision in (2, 4)
      -- Always true; it makes this wait for `left_it`.
      and (select count(*) from left_it) >= 0
    order by task_id
  ), in_time as materialized (
    select task_id, now() + (coalesce((workflow->>'delay_ms')::bigint, 0) + (workflow->>'expires_in_ms')::bigint)
           * interval '1 millisecond' as expires_at
    from judged where decision < 10 and workflow ? 'expires_in_ms'
  ), dated as (
    -- The time in which a node may begin starts here: the one column of a task that is not known when it is stored.
    update task set expires_at = i.expires_at from in_time i
    where task.id = i.task_id and task.id between due[1] and due[cardinality(due)]
  ), expiring as (
    insert into expiry (look_at, task_id, expires_at) select i.expires_at, i.task_id, i.expires_at from in_time i order by 2
  ), recorded as (
    -- Not now(): what it looked at may have ended since it began.
    insert into task_run (task_id, run_number, attempt_number, outcome, final, finished_at, reason, cause, result, error_type,
                          error_message)
    select task_id, run_number, attempt_number, decision - 10, true, clock_timestamp(),
           case when decision = 15 then case when kind = 1 then cancel_reason
             else format('it waited for %s', names) end end,
           case when decision = 15 and kind = 3 then 4 end,
           case when decision = 12 then convert_to(jsonb_build_object('sinks', coalesce(workflow->'sinks', '{}'))::text, 'UTF8') end,
           case when decision = 13 then case when kind = 1 then 'WorkflowFailed' else 'ResultsTooLarge' end end,
           case when decision = 13 then case when kind = 1 then
             format('%s of %s nodes did not complete: %s%s', bad, workflow->>'nodes', names,
                    case when bad > 10 then ', ...' else '' end)
           else
             format('the results of its upstreams have %s bytes, which is with its payload more than %s; store large values'
                    ' elsewhere and return a reference', bytes, most_bytes)
           end end
    from judged where decision > 10 order by task_id
  )
  select task_id, decision, lane, rank from judged;
end
$$;

-- Whether any of these tasks lives. The first ones are looked at first, and often one is enough.
create function waits_for_any(upstreams uuid[]) returns boolean
language sql stable
set search_path from current
as $$
  select (select true from unnest($1) as u (id)
          where (select true from live where live.task_id = u.id limit 1) limit 1) is not null
$$;

-- The nodes that live of those of these roots (in order) that were cancelled, or that are given up at the first bad end, with
-- 9. Those that were asked to stop are left out, and so are roots that nobody has stopped.
create function given_up(roots uuid[])
returns table (decided uuid, became smallint, into_lane integer, at_rank smallint)
language sql stable
set search_path from current
as $$
  with stopped as materialized (
    select t.id, t.upstreams, b.cancel_at is not null as cancelled,
           (select min(u.id::text)::uuid from unnest(t.upstreams) as u (id)) as lowest,
           (select max(u.id::text)::uuid from unnest(t.upstreams) as u (id)) as highest
    from blocked b
    cross join lateral (
      select * from task where task.id = b.task_id and task.id between $1[1] and $1[cardinality($1)] limit 1
    ) t
    where b.task_id = any ($1) and b.kind = 1 and (b.cancel_at is not null or t.workflow ? 'fail_fast')
  )
  select l.task_id, 9::smallint, l.lane, l.rank
  from stopped s
  cross join lateral unnest(s.upstreams) as u (id)
  cross join lateral (
    select task_id, lane, rank from ready where task_id = u.id
    union all
    select task_id, lane, rank from delayed where task_id = u.id
    union all
    select task_id, lane, rank from lease where task_id = u.id and cancel_at is null
    union all
    select task_id, lane, rank from blocked where task_id = u.id
  ) l
  where s.cancelled or (
    select true from unnest(s.upstreams) as other (id)
    cross join lateral (
      select outcome, final from task_run
      where task_run.task_id = other.id and task_run.task_id between s.lowest and s.highest
      order by run_number desc limit 1
    ) r
    where r.final and r.outcome <> 2 and (select true from live where live.task_id = other.id limit 1) is null
    limit 1)
$$;
