"""What each SQLSTATE of Postgres means for a broker: one table, the longest prefix decides, unknown ones too.

    ITEM        the data of one item is at fault: found by bisection and answered alone (rule 6)
    CONFLICT    nothing was stored, the same statement may do the next time
    SLOW        it was cut off for its time; a smaller one may do
    PARTITION   an item's day has no partition: it is made if the day is near, else the item is at fault
    READ_ONLY   this server writes no more: its connections are closed, others are looked for
    AWAY        the connection or the server went; the next connection may do
    REFUSED     the server is there and refuses: no login, no right, no table, no room. It lasts until
                somebody mends it, so health says NOT_SERVING
    LANES       it names a lane that was not used for long: interned again, the same may do the next time
    DEFECT      a statement of ours is wrong

All but ITEM, PARTITION and DEFECT are StorageUnavailable: nothing is known to be stored, repeating is safe.
"""

from collections.abc import Mapping
from enum import Enum, auto
from types import MappingProxyType
from typing import Final

import asyncpg

from hyrex_broker.domain.errors import LanesClosed, StorageUnavailable


class Meaning(Enum):
    """What a SQLSTATE says about a statement, or about the database."""

    ITEM = auto()
    CONFLICT = auto()
    SLOW = auto()
    PARTITION = auto()
    READ_ONLY = auto()
    AWAY = auto()
    REFUSED = auto()
    LANES = auto()
    DEFECT = auto()


_M = Meaning
MEANINGS: Final[Mapping[str, Meaning]] = MappingProxyType(
    {
        "08": _M.AWAY,  # connection exception
        "08P01": _M.AWAY,  # protocol violation: a pooler that has lost its server says this too
        "09": _M.ITEM,  # triggered action: code that an operator attached
        "0A": _M.REFUSED,  # feature not supported, by whatever stands in Postgres' place
        "20": _M.ITEM,
        "21": _M.ITEM,
        "22": _M.ITEM,  # data exception
        "23": _M.ITEM,  # integrity constraint
        "25": _M.AWAY,  # invalid transaction state
        "25006": _M.READ_ONLY,
        "26": _M.AWAY,  # an unknown prepared statement: another server behind a pooler
        "27": _M.ITEM,
        "28": _M.REFUSED,  # login refused: password, pg_hba.conf, NOLOGIN
        "34": _M.AWAY,  # an unknown cursor
        "38": _M.ITEM,
        "39": _M.ITEM,
        "3D": _M.REFUSED,  # no such database
        "3F": _M.REFUSED,  # no such schema
        "40": _M.AWAY,  # rolled back
        "40001": _M.CONFLICT,
        "40P01": _M.CONFLICT,
        "42": _M.DEFECT,
        "42501": _M.REFUSED,  # no right
        "42P01": _M.REFUSED,  # no such table: renamed, dropped, or restored only half
        "42703": _M.REFUSED,  # no such column
        "42704": _M.REFUSED,
        "42883": _M.REFUSED,  # no such function
        "44": _M.ITEM,
        "53": _M.REFUSED,  # out of disk, memory or connections
        "54": _M.ITEM,  # program limit exceeded
        "55": _M.AWAY,
        "55P03": _M.SLOW,  # lock not available
        "57": _M.AWAY,  # shut down, starting up, terminated by an administrator
        "57014": _M.SLOW,  # cancelled: statement_timeout
        "58": _M.REFUSED,  # errors of the system under Postgres
        "F0": _M.REFUSED,
        "HX001": _M.LANES,  # raised by `lanes_closed`
        "P0": _M.ITEM,  # raised by a trigger that an operator attached
        "XX": _M.REFUSED,  # Postgres fails inside
    }
)
UNKNOWN: Final = Meaning.REFUSED
"""A state that is not in the table: the caller may try again, somebody has to look."""
NOT_ANSWERED: Final = (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""What asyncpg raises where a connection ends: InternalClientError if it does so between two of its steps."""


class StatementRefused(Exception):
    """Postgres refused the data of a statement: one item is at fault."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.sqlstate: str = getattr(cause, "sqlstate", None) or "22000"
        self.lacks_partition = isinstance(cause, asyncpg.PostgresError) and meaning(cause) is _M.PARTITION


def meaning(error: asyncpg.PostgresError) -> Meaning:
    """What an error of the server means."""
    state = str(error.sqlstate or "")
    if state == "23514" and getattr(error, "constraint_name", None) is None:
        # A row without a partition; a check constraint would be named. The text depends on lc_messages.
        return Meaning.PARTITION
    return MEANINGS.get(state) or MEANINGS.get(state[:2]) or UNKNOWN


class Translation:
    """See `translated`. Not a generator, which costs each statement five more calls."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            _translate(error)


_TRANSLATION: Final = Translation()


def translated() -> Translation:
    """Turn asyncpg's exceptions into the storage's own; deadlocks and serialisation failures pass (they are
    repeated where the statement is known), and so does a defect of ours."""
    return _TRANSLATION


def _translate(raised: BaseException) -> None:
    """Raise what an exception means, or itself."""
    try:
        raise raised
    except asyncpg.PostgresError as error:
        found = meaning(error)
        if found in (Meaning.CONFLICT, Meaning.DEFECT):
            raise
        if found in (Meaning.ITEM, Meaning.PARTITION):
            raise StatementRefused(error) from error
        raise _unavailable(error, found) from error
    except asyncpg.exceptions._base.DataError as error:
        # asyncpg could not encode an argument: the item's fault as much as if Postgres had said so.
        raise StatementRefused(error) from error
    except TimeoutError as error:
        raise StorageUnavailable("the database did not answer in time", timed_out=True) from error
    except asyncpg.TargetServerAttributeNotMatched as error:
        raise StorageUnavailable(
            "no server of the database's URL takes writes: they are standbys, or their"
            " default_transaction_read_only is on",
            lasts=True,
        ) from error
    except NOT_ANSWERED as error:
        raise StorageUnavailable(
            f"the database did not answer: {type(error).__name__}: {one_line(error)}"
        ) from error


def _unavailable(error: asyncpg.PostgresError, found: Meaning) -> StorageUnavailable:
    text = f"{one_line(error)} (SQLSTATE {error.sqlstate})"
    match found:
        case Meaning.SLOW:
            return StorageUnavailable(f"the database did not answer in time: {text}", timed_out=True)
        case Meaning.LANES:
            return LanesClosed(text, conflict=True)
        case Meaning.REFUSED | Meaning.READ_ONLY:
            return StorageUnavailable(f"the database refuses: {text}", lasts=True)
        case _:
            return StorageUnavailable(f"the database did not answer: {text}")


def one_line(error: BaseException) -> str:
    """An error's text without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__
