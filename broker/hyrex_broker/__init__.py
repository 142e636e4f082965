"""The Hyrex broker: keeps tasks in Postgres and streams them to workers."""
