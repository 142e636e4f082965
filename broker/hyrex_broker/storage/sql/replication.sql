-- name: confirm
-- An empty message in the log, whose commit waits for the synchronous standbys as any other; nothing where there
-- are none, so that it costs them no commit.
select pg_logical_emit_message(true, 'hyrex', '') where current_setting('synchronous_standby_names') <> ''

-- name: timeline
-- The timeline to which this server writes: the first eight hexadecimal digits of its log file's name. Not that of
-- pg_control_checkpoint(), which is the old one until the first checkpoint after a promotion. Any role may ask.
select ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint

-- name: cluster
-- What tells one cluster of Postgres from another; its standbys have the same. Any role may ask.
select system_identifier from pg_control_system()
