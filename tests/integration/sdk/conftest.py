"""Fixtures of the SDK's tests with processes of their own."""

from tests.support.scripted_tasks import server, tasks

__all__ = ["server", "tasks"]
