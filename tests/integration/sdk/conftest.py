"""Fixtures of the SDK's tests with processes of their own."""

from tests.integration.storage.conftest import shared_url, storage_url
from tests.support.scripted_tasks import server, tasks

__all__ = ["server", "shared_url", "storage_url", "tasks"]
