"""Postgres: the only package that knows asyncpg. One module and one .sql file per aggregate."""
