"""Access to Postgres. The only package that imports asyncpg; one module and one .sql file per aggregate."""
