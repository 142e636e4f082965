"""Fixtures for every test: a real Postgres, real brokers and workers."""

pytest_plugins = ["tests.support.postgres", "tests.support.processes"]
