"""The options of tasks, and the checks of their values.

Knows neither wire types nor registries: each check takes a value and returns it, checked.
"""

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Literal
from uuid import UUID

__all__ = [
    "CHANGEABLE",
    "CHECKS",
    "DEFAULT_QUEUE",
    "MAX_RETRIES",
    "UNSET",
    "Backoff",
    "OnError",
    "SendOptions",
    "TaskConfig",
    "Timeout",
    "Unset",
    "checked_texts",
    "checked_wait",
]

Backoff = float | timedelta | Callable[[int], float | timedelta]
Timeout = float | timedelta | None
"""How long to wait: seconds or a timedelta; None for no limit."""
OnError = Callable[[], object] | Callable[[Any], object] | Callable[[Any], Awaitable[object]]

OnFull = Literal["wait", "refuse"]
"""What becomes of a task whose concurrency key has its maximum: it waits, or is refused (KeyBusy)."""
KeyOf = Callable[..., str | int | UUID | None]
"""The concurrency or fair key of a call, by its arguments; None: it has none."""

DEFAULT_QUEUE: Final = "default"
MAX_RETRIES: Final = 1_000_000
MAX_PER_KEY: Final = 1000
NAME_LIMIT_BYTES: Final = 255
TEXTS_LIMIT_BYTES: Final = 64 * 1024
LEAST_S: Final = 0.001  # the broker counts in milliseconds
DURATION_LIMIT_S: Final = 10 * 366 * 86_400.0  # the broker refuses what is longer


class Unset:
    """The type of UNSET: no value was given, so the next level decides."""

    def __repr__(self) -> str:
        return "UNSET"

    def __reduce__(self) -> str:
        return "UNSET"  # a copy, or what comes back from another process, is the one that there is

    def __bool__(self) -> Literal[False]:
        return False


UNSET: Final = Unset()


@dataclass(frozen=True, slots=True)
class TaskConfig:
    """The configuration of a task, with the registry's options and the defaults applied."""

    name: str
    queue: str = DEFAULT_QUEUE
    max_retries: int = 0
    timeout_seconds: float | None = None
    priority: int = 5
    retry_backoff: Backoff | None = None
    no_retry_on: tuple[type[BaseException], ...] = ()
    on_error: OnError | None = None
    max_concurrency: int | None = None
    rate: str | None = None
    burst: int | None = None
    cron: str | None = None
    tz: str = "UTC"
    expires_in: float | None = None


CHANGEABLE: Final = ("queue", "priority", "max_retries", "timeout_seconds", "expires_in")
"""The options of TaskConfig that with_config may change."""


@dataclass(frozen=True, slots=True)
class SendOptions:
    """The options of one send that are not part of TaskConfig."""

    idempotency_key: str | None = None
    delay: timedelta | None = None
    run_at: datetime | None = None
    debounce_key: str | None = None
    debounce_max_wait: timedelta | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    concurrency_key: str | Unset | None = UNSET
    """UNSET: the task's own, if it has one."""
    max_per_key: int = 1
    on_full: OnFull = "wait"
    fair_key: str | Unset | None = UNSET
    """As concurrency_key."""

    def __post_init__(self) -> None:
        if self.delay is not None and self.run_at is not None:
            raise ValueError("give delay or run_at, not both")
        if self.debounce_key is not None or self.debounce_max_wait is not None:
            self._check_debounce()

    def _check_debounce(self) -> None:
        if self.debounce_key is None:
            raise ValueError("debounce_max_wait is for sends with a debounce_key; give that too")
        if not self.delay:
            raise ValueError(
                "debounce_key needs a delay above 0, which each send begins anew; give delay too"
            )
        if self.idempotency_key is not None:
            raise ValueError("give debounce_key or idempotency_key, not both")
        if isinstance(self.concurrency_key, str):
            raise ValueError(
                "give debounce_key or concurrency_key, not both; concurrency_key=None takes that of the task"
                " away"
            )
        if self.debounce_max_wait is not None and self.debounce_max_wait < self.delay:
            raise ValueError(
                f"debounce_max_wait must be at least the delay, {self.delay}, got {self.debounce_max_wait}"
            )


def checked_name(what: str, value: object) -> str:
    """The value as a name of 1..255 bytes of UTF-8 without NUL, or TypeError / ValueError."""
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a str, got {value!r}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{what} {value!r} is not valid Unicode") from None
    if not 1 <= size <= NAME_LIMIT_BYTES or "\0" in value:
        raise ValueError(f"{what} must have 1..{NAME_LIMIT_BYTES} bytes and no NUL, got {value[:80]!r}")
    return value


def checked_count(what: str, value: object, *, minimum: int, maximum: int = 2**31 - 1) -> int:
    """The value as an int within the bounds, or TypeError / ValueError."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what} must be an int, got {value!r}")
    if not minimum <= value <= maximum:
        bounds = f"{minimum}..{maximum}" if maximum < 2**31 - 1 else f"{minimum} or more"
        raise ValueError(f"{what} must be {bounds}, got {value}")
    return int(value)


def checked_flag(what: str, value: object) -> bool:
    """True or False, or TypeError."""
    if not isinstance(value, bool):
        raise TypeError(f"{what} must be True or False, got {value!r}")
    return value


def checked_priority(value: object) -> int:
    """1..10, higher first."""
    return checked_count("priority", value, minimum=1, maximum=10)


def checked_retries(value: object) -> int:
    """0 or more."""
    return checked_count("max_retries", value, minimum=0, maximum=MAX_RETRIES)


def checked_timeout(value: object) -> float | None:
    """Seconds above 0, or None for no limit."""
    if value is None:
        return None
    seconds = checked_seconds("timeout_seconds", value)
    if seconds <= 0:
        raise ValueError(f"timeout_seconds must be above 0, got {value!r}")
    return seconds


def checked_expiry(value: object) -> float | None:
    """Seconds from a millisecond on, or None for ever."""
    if value is None:
        return None
    seconds = checked_seconds("expires_in", value)
    if seconds < LEAST_S:
        raise ValueError(f"expires_in must be {LEAST_S:g} seconds or more, got {value!r}")
    return seconds


def checked_seconds(what: str, value: object) -> float:
    """Seconds >= 0 from a number or a timedelta, or TypeError / ValueError."""
    if isinstance(value, timedelta):
        seconds = float(value.total_seconds())  # of a subclass, it may be of any type
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = _as_float(value)
    else:
        raise TypeError(f"{what} must be seconds or a timedelta, got {value!r}")
    if not 0 <= seconds <= DURATION_LIMIT_S:
        raise ValueError(f"{what} must be 0..{DURATION_LIMIT_S:.0f} seconds, got {value!r}")
    return seconds


def checked_run_at(value: object) -> datetime:
    """The value as an aware datetime in UTC, or TypeError / ValueError; a naive datetime is refused."""
    if not isinstance(value, datetime):
        raise TypeError(f"run_at must be a datetime, got {value!r}")
    if value.utcoffset() is None:
        raise ValueError(f"run_at must have a timezone, got {value!r}")
    try:
        return value.astimezone(UTC)
    except OverflowError:  # in UTC it is before the first year or after the last one
        raise ValueError(f"run_at must be within the years 1 to 9999 in UTC, got {value!r}") from None


def checked_key(what: str, value: object) -> str | None:
    """The value as a concurrency or fair key (a number or a UUID as its text; None for no key), or TypeError
    / ValueError."""
    if isinstance(value, UUID) or (isinstance(value, int) and not isinstance(value, bool)):
        value = str(value)
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{what} must be a str, an int, a UUID or None, got {value!r}")
    return None if value is None else checked_name(what, value)


def checked_max_per_key(value: object) -> int:
    """1..1000."""
    return checked_count("max_per_key", value, minimum=1, maximum=MAX_PER_KEY)


def checked_on_full(value: object) -> OnFull:
    """One of the two words, or TypeError / ValueError."""
    if not isinstance(value, str):
        raise TypeError(f"on_full must be 'wait' or 'refuse', got {value!r}")
    if value not in ("wait", "refuse"):
        raise ValueError(f"on_full must be 'wait' or 'refuse', got {value[:80]!r}")
    return "wait" if value == "wait" else "refuse"


def checked_schedule(cron: object, tz: object) -> tuple[str | None, str]:
    """A cron expression and a time zone, or TypeError / ValueError; no expression, no zone."""
    if not isinstance(tz, str):
        raise TypeError(f"tz must be the name of a time zone, got {tz!r}")
    if cron is None:
        if tz != "UTC":
            raise ValueError(f"tz = {tz[:80]!r} is the zone of a cron expression; give cron too")
        return None, tz
    if not isinstance(cron, str):
        raise TypeError(f"cron must be a str such as '0 9 * * *', got {cron!r}")
    from hyrex.runtime.cron import Cron  # few programs have schedules

    Cron(cron, tz)
    return cron, tz


def checked_texts(what: str, value: object) -> dict[str, str]:
    """The value as headers or labels (str to str, 64 KiB in all, no NUL), or TypeError / ValueError."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{what} must be a mapping of str to str, got {value!r}")
    size = 0
    for name, text in value.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise TypeError(f"{what} must be a mapping of str to str, got {name!r}: {text!r}")
        if "\0" in name + text:
            raise ValueError(f"{what} must not contain NUL, got {name!r}: {text[:80]!r}")
        try:
            size += len(name.encode()) + len(text.encode())
        except UnicodeEncodeError:
            raise ValueError(f"{what} {name!r}: {text[:80]!r} is not valid Unicode") from None
    if size > TEXTS_LIMIT_BYTES:
        raise ValueError(f"{what} must have at most {TEXTS_LIMIT_BYTES} bytes, got {size}")
    return dict(value)


def checked_wait(timeout: object) -> float | None:
    """Seconds to wait, 0 for a negative value; or TypeError / ValueError."""
    if timeout is None:
        return None
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        raise TypeError(f"timeout must be seconds or a timedelta, got {timeout!r}")
    if seconds != seconds:  # NaN
        raise ValueError(f"timeout must be seconds or a timedelta, got {timeout!r}")
    return max(0.0, _as_float(seconds))


def _as_float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:  # an int that no float holds
        return math.copysign(math.inf, number > 0 or -1)


def _or_none(check: Callable[[str, Any], Any], what: str) -> Callable[[Any], Any]:
    return lambda value: None if value is None else check(what, value)


def _checked_delay(what: str, value: object) -> timedelta:
    return timedelta(seconds=checked_seconds(what, value))


CHECKS: Final[Mapping[str, Callable[[Any], Any]]] = MappingProxyType(
    {
        "priority": checked_priority,
        "max_retries": checked_retries,
        "timeout_seconds": checked_timeout,
        "expires_in": checked_expiry,
        "idempotency_key": _or_none(checked_name, "idempotency_key"),
        "delay": _or_none(_checked_delay, "delay"),
        "run_at": lambda value: None if value is None else checked_run_at(value),
        "debounce_key": _or_none(checked_name, "debounce_key"),
        "debounce_max_wait": _or_none(_checked_delay, "debounce_max_wait"),
        "headers": partial(checked_texts, "headers"),
        "labels": partial(checked_texts, "labels"),
        "concurrency_key": partial(checked_key, "concurrency_key"),
        "max_per_key": checked_max_per_key,
        "on_full": checked_on_full,
        "fair_key": partial(checked_key, "fair_key"),
    }
)
"""What with_config has options pass; the queue is of a type that is not known here."""
