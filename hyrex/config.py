"""Settings of the process, read from the environment when they are first needed, never at import."""

import os
from dataclasses import dataclass
from typing import Final

__all__ = ["DEFAULT_BROKER_URL", "Settings", "read_settings"]

DEFAULT_BROKER_URL: Final = "grpc://localhost:50051"
DEFAULT_SEND_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the broker is, what opens it, and how long a send may take."""

    broker_url: str = DEFAULT_BROKER_URL
    token: str | None = None
    send_timeout_s: float = DEFAULT_SEND_TIMEOUT_S


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
