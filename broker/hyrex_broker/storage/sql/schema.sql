-- name: try_to_exclude_others
-- Whether this session may migrate or maintain its schema: one at a time does, whatever others do elsewhere.
select pg_try_advisory_lock(hashtext('hyrex.schema'), hashtext(trim('"' from split_part(current_setting('search_path'), ',', 1))))

-- name: admit_others
-- Lets the next one.
select pg_advisory_unlock(hashtext('hyrex.schema'), hashtext(trim('"' from split_part(current_setting('search_path'), ',', 1))))

-- name: found
-- What there is by the schema's name. $1 schema. `foreign`: a table in the way that is not ours; where a table
-- of versions is ours, so are the others. `others`: schemas that have a Hyrex.
with versions as (
  select n.nspname, c.relname = 'schema_version' and c.relkind = 'r' and exists (
           select from pg_attribute a where a.attrelid = c.oid and a.attname = 'serves_from') as ours
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relname = 'schema_version'
)
select exists (select from pg_namespace where nspname = $1) as exists,
       coalesce((select has_schema_privilege(oid, 'usage') from pg_namespace where nspname = $1), false) as usable,
       exists (select from versions where nspname = $1 and ours) as has_versions,
       exists (select from pg_class where relnamespace = to_regnamespace($1) and relname = 'task') as has_tables,
       (select c.relname from pg_class c
        where c.relnamespace = to_regnamespace($1)
          and c.relname in ('schema_version', 'namespace', 'broker', 'lane', 'queue', 'concurrency_limit',
                            'task_definition', 'worker_session', 'task', 'task_run', 'ready', 'delayed', 'lease',
                            'reopen', 'idempotency', 'low_water_mark', 'token', 'audit', 'outbox_version')
          and not exists (select from versions where nspname = $1 and ours)
        order by c.relname limit 1) as foreign,
       array(select nspname::text from versions where nspname <> $1 and ours order by 1) as others

-- name: make_versions
-- Where a schema's versions are kept.
create table if not exists schema_version (
  number      integer primary key,
  name        text not null,
  serves_from integer not null,
  applied_at  timestamptz not null default now()
)

-- name: current
-- The schema's number, and from which one on it serves brokers.
select coalesce(max(number), 0) as number, coalesce(max(serves_from), 0) as serves_from from schema_version
