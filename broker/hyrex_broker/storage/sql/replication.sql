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

-- name: written
-- How far the primary's log is on its disk, in bytes: a standby can have no more. And of which timeline that is.
select pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint as position,
       ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint as timeline

-- name: replayed
-- How far a standby has replayed the log, in bytes; null on a server that takes writes.
select case when pg_is_in_recovery() then pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint end as position

-- name: replayed_timeline
-- The newest timeline that a standby is known to follow. What it receives now is shown to roles with
-- pg_read_all_stats only; for others, and while it receives nothing, the newest of which it has kept its state on
-- disk, which may be the one before for some minutes after a failover (until its next restartpoint).
select greatest(
  (select received_tli from pg_stat_wal_receiver),
  (select timeline_id from pg_control_checkpoint()),
  (select min_recovery_end_timeline from pg_control_recovery())
)::bigint as timeline
