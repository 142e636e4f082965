"""A role that may log in and nothing else, as operators give one to a broker."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

from tests.support.postgres import connect, run_apart


@contextmanager
def role_with_few_rights(url: str) -> Iterator[str]:
    """A database's URL for a new role; both go when the block ends."""
    role, password = f"broker_{os.getpid()}_{secrets.token_hex(3)}", secrets.token_hex(8)
    execute_now(
        url, f"create role {role} login password '{password}'", "revoke create on schema public from public"
    )
    parts = urlsplit(url)
    try:
        yield urlunsplit(parts._replace(netloc=f"{role}:{password}@{parts.hostname}:{parts.port}"))
    finally:
        execute_now(
            url,
            f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{role}'",
            f"drop owned by {role}",
            f"drop role {role}",
        )


def role_of(url: str) -> str:
    """The role of a URL."""
    role = urlsplit(url).username
    assert role is not None
    return role


def execute_now(url: str, *statements: str) -> None:
    """Run statements on a connection of their own."""
    run_apart(_execute(url, *statements))


async def _execute(url: str, *statements: str) -> None:
    connection = await connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
