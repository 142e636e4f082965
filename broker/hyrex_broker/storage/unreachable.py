"""Why no server of a URL can be used: one line, with each server's own reason."""

from collections.abc import Sequence
from typing import Final

import asyncpg

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.storage.sqlstates import one_line

STANDBY: Final = "takes no writes: it is a standby, or its default_transaction_read_only is on"
"""What follows a server's name."""


def none_left(places: Sequence[str], errors: Sequence[Exception]) -> Exception:
    """The error where all servers failed: a lone server's own, else one that has a reason for each."""
    for error in errors:
        if len(errors) == 1 or isinstance(error, asyncpg.TooManyConnectionsError):
            return error
    reasons = "; ".join(f"{place} {_reason(error)}" for place, error in zip(places, errors, strict=True))
    lasts = all(_lasts(error) for error in errors)
    return StorageUnavailable(f"no server of the database's URL can be used: {reasons}", lasts=lasts)


def _reason(error: Exception) -> str:
    """What a server did, as what follows its name."""
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return STANDBY
    if isinstance(error, TimeoutError):
        return "did not answer in time (a URL's connect_timeout changes that)"
    if isinstance(error, ConnectionRefusedError):
        return "refused the connection"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be reached: {error.strerror}"
    text = one_line(error)
    return f"refuses: {text}" if isinstance(error, asyncpg.PostgresError) else f"cannot be used: {text}"


def _lasts(error: Exception) -> bool:
    return isinstance(error, asyncpg.TargetServerAttributeNotMatched) or getattr(error, "lasts", False)
