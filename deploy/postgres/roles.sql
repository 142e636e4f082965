-- The roles of Hyrex, to be made once in its database by a superuser:
--   psql -v ON_ERROR_STOP=1 -f roles.sql DATABASE
-- hyrex_owner makes and migrates the schema (hyrex migrate); hyrex_broker reads and writes its rows; hyrex_outbox, which
-- nobody logs in as, may insert into the outbox for callers of hyrex.enqueue (hyrex migrate --enqueue-as). None may
-- make databases, roles or replicas, and others may do nothing here. Then give them passwords: \password hyrex_owner
create role hyrex_owner login nosuperuser nocreatedb nocreaterole noreplication;
create role hyrex_broker login nosuperuser nocreatedb nocreaterole noreplication;
create role hyrex_outbox nologin nosuperuser nocreatedb nocreaterole noreplication;
grant hyrex_outbox to hyrex_owner;
revoke create on schema public from public;
do $$
begin
  execute format('revoke all on database %I from public', current_database());
  execute format('grant connect on database %I to hyrex_owner, hyrex_broker', current_database());
  execute format('grant create on database %I to hyrex_owner', current_database());
end
$$;
