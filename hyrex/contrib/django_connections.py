"""Database connections of Django: `app.middleware(DjangoConnections())`. Needs Django 4.2 or newer.

Django closes connections that are broken or older than CONN_MAX_AGE at each request. A worker has no
requests, so without this the first run after a restart of the database fails, and so do those after it.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from hyrex.contrib.needs import needing
from hyrex.middleware import Middleware, RunInfo

with needing("django>=4.2"):
    from asgiref.sync import sync_to_async
    from django.db import close_old_connections

__all__ = ["DjangoConnections"]


class DjangoConnections(Middleware):
    """Calls close_old_connections() before and after each run and each error handler.

    Give it first, so that what is within it has a connection that works. For async tasks it does so in the
    thread in which Django's async interface talks to the database.
    """

    @contextmanager
    def around_run(self, run: RunInfo, /) -> Iterator[None]:
        """Within the block the run is executed."""
        close_old_connections()
        try:
            yield
        finally:
            close_old_connections()

    @asynccontextmanager
    async def around_run_async(self, run: RunInfo, /) -> AsyncIterator[None]:
        """Within the block the run is executed."""
        close = sync_to_async(close_old_connections)
        await close()
        try:
            yield
        finally:
            await close()

    around_on_error = around_run
