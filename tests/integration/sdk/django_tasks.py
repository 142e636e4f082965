"""Tasks that use connections of Django, with DjangoConnections around them: it fails if they are kept."""

import asyncio
import sys

import django
from asgiref.sync import sync_to_async
from django.conf import settings

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1], "CONN_MAX_AGE": 0}},
    USE_TZ=True,
)
django.setup()

from django.db import connection  # noqa: E402  # only after the setup

from hyrex import HyrexApp, HyrexRegistry  # noqa: E402
from hyrex.contrib.django_connections import DjangoConnections  # noqa: E402
from hyrex.testing import inline  # noqa: E402

hy = HyrexRegistry()
app = HyrexApp("shop")
app.add_registry(hy)
app.middleware(DjangoConnections())
opened: list[bool] = []


def query() -> bool:
    """Use the connection; return True if it had to be opened."""
    fresh = connection.connection is None
    with connection.cursor() as cursor:
        cursor.execute("select 1")
    opened.append(fresh)
    return fresh


@hy.task
def work() -> bool:
    """Uses it in this thread."""
    return query()


@hy.task
async def work_later() -> bool:
    """Uses it in the thread of Django's async interface."""
    return await sync_to_async(query)()


def clean_up() -> None:
    """Uses it in the error handler."""
    query()


@hy.task(on_error=clean_up)
def fail() -> None:
    """Uses it and fails."""
    query()
    raise LookupError


async def both() -> list[bool]:
    """Two async runs, one after the other."""
    return [await (await work_later.send_async()).result_async() for _ in range(2)]


def main() -> None:
    """CONN_MAX_AGE is 0: each connection is old at once, so it is closed before and after each run."""
    with inline(raise_failures=False):
        query()
        assert work.send().result()
        assert connection.connection is None
        assert asyncio.run(both()) == [True, True]
        fail.send()
        assert connection.connection is None
    assert opened == [True] * 6, opened


if __name__ == "__main__":
    main()
