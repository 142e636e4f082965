#!/bin/sh
# Run by the image of Postgres when it makes the database of compose.yaml, after roles.sql.
set -eu
for role in hyrex_owner hyrex_broker; do
  psql -v ON_ERROR_STOP=1 -v role="$role" -v password="$(cat "/run/secrets/${role}_password")" \
    --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
alter role :"role" password :'password';
SQL
done
