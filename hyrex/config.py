"""Settings of the process, read from the environment when they are first needed, never at import."""

import os
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["DEFAULT_BROKER_URL", "Settings", "fingerprint", "read_settings"]

DEFAULT_BROKER_URL: Final = "grpc://localhost:50051"
DEFAULT_SEND_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the broker is, what opens it, and how long a send may take."""

    broker_url: str = DEFAULT_BROKER_URL
    token: str | None = None
    send_timeout_s: float = DEFAULT_SEND_TIMEOUT_S


# The dictionary behind os.environ: each read through the front costs a send a microsecond.
_variables: Final[Any] = getattr(os.environ, "_data", os.environ)
_encode: Final[Any] = getattr(os.environ, "encodekey", str)
_BROKER_URL, _TOKEN, _SEND_TIMEOUT = (
    _encode(f"HYREX_{name}") for name in ("BROKER_URL", "TOKEN", "SEND_TIMEOUT")
)


def fingerprint() -> tuple[object, ...]:
    """Something that is equal as long as read_settings() would say the same."""
    return _variables.get(_BROKER_URL), _variables.get(_TOKEN), _variables.get(_SEND_TIMEOUT)


def read_settings() -> Settings:
    """The settings of the environment: HYREX_BROKER_URL, HYREX_TOKEN, HYREX_SEND_TIMEOUT."""
    return Settings(
        broker_url=os.environ.get("HYREX_BROKER_URL") or DEFAULT_BROKER_URL,
        token=os.environ.get("HYREX_TOKEN") or None,
        send_timeout_s=_seconds("HYREX_SEND_TIMEOUT", DEFAULT_SEND_TIMEOUT_S),
    )


def _seconds(variable: str, default: float) -> float:
    text = os.environ.get(variable)
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"{variable} must be seconds above 0, got {text!r}")
    return seconds
