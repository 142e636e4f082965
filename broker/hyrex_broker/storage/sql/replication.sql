-- name: confirm
-- An empty message in the log, whose commit waits for the synchronous standbys as any other; nothing where there
-- are none, so that it costs them no commit.
select pg_logical_emit_message(true, 'hyrex', '') where current_setting('synchronous_standby_names') <> ''
