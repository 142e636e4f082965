-- name: server
-- What the server says of itself and of its room.
select current_setting('server_version') as version,
       current_setting('synchronous_commit') as commits,
       current_setting('synchronous_standby_names') as standbys,
       current_setting('fsync') as fsync,
       current_setting('max_connections')::integer as most,
       current_setting('superuser_reserved_connections')::integer as reserved,
       (select count(*)::integer from pg_stat_activity where backend_type = 'client backend') as used,
       (select extract(epoch from max(now() - xact_start))::float8 from pg_stat_activity
        where xact_start is not null and pid <> pg_backend_pid() and backend_type = 'client backend') as oldest_s

-- name: schema
-- Whether a schema has a Hyrex. $1 its name.
select to_regclass(quote_ident($1) || '.schema_version') as versions

-- name: lost_lanes
-- Lanes that ready tasks name and that are not stored (a failover lost them), with one task of each; at most ten.
with recursive seen as (
  select min(lane) as lane from ready where lane >= 0
  union all
  select (select min(lane) from ready where lane > seen.lane) from seen where seen.lane is not null
)
select seen.lane, (select task_id from ready where ready.lane = seen.lane limit 1)::text as task_id
from seen
where seen.lane is not null and (select true from lane where id = seen.lane limit 1) is null
order by seen.lane limit 10

-- name: state
-- The schema's number, today's and tomorrow's partitions that are missing, and brokers seen lately.
select (select coalesce(max(number), 0) from schema_version) as number,
       array(select name from (
               select parent || '_' || to_char((now() at time zone 'UTC')::date + ahead, 'YYYYMMDD') as name
               from unnest(array['task', 'task_run']) as parent, unnest(array[0, 1]) as ahead) wanted
             where to_regclass(name) is null order by name) as missing,
       (select count(*) from broker where seen_at > now() - interval '10 seconds') as brokers

-- name: outbox
-- Of an outbox in another database: its version, and for how long the row has waited that is taken next.
select (select coalesce(max(number), 0) from outbox_version) as number,
       (select extract(epoch from now() - enqueued_at)::float8 from outbox
        where held is null order by xid, id limit 1) as waited_s
