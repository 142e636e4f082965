"""Settings of the process, read from the environment when they are first needed, never at import."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hyrex.runtime.loading import load

if TYPE_CHECKING:
    from hyrex.cells import CellRoutes

__all__ = [
    "DEFAULT_BROKER_URL",
    "Settings",
    "cells_text",
    "entrust_token",
    "fingerprint",
    "read_settings",
    "read_token",
    "usable_token",
]

DEFAULT_BROKER_URL: Final = "grpc://localhost:50051"
DEFAULT_SEND_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Settings:
    """The address of the broker, the token for it, and how long a send may take. With `cells`, tasks are sent
    to these, and not to the broker."""

    broker_url: str = DEFAULT_BROKER_URL
    token: str | None = None
    send_timeout_s: float = DEFAULT_SEND_TIMEOUT_S
    cells: "CellRoutes | None" = None


# The dictionary behind os.environ: reading os.environ itself would cost each send a microsecond.
_variables: Final[Any] = getattr(os.environ, "_data", os.environ)
_encode: Final[Any] = getattr(os.environ, "encodekey", str)
_NAMES: Final = tuple(
    _encode(f"HYREX_{name}") for name in ("BROKER_URL", "CELLS", "TOKEN", "TOKEN_FILE", "SEND_TIMEOUT")
)

_entrusted: str | None = None


def fingerprint() -> tuple[object, ...]:
    """A value that stays equal as long as read_settings() would return the same."""
    return tuple(map(_variables.get, _NAMES))


def read_settings(without_token: bool = False) -> Settings:
    """The settings from the environment: HYREX_BROKER_URL, HYREX_CELLS, HYREX_TOKEN, HYREX_SEND_TIMEOUT.

    Raises: ValueError if one of them is invalid.
    """
    token = None if without_token else read_token()
    cells = cells_text()
    return Settings(
        broker_url=os.environ.get("HYREX_BROKER_URL") or DEFAULT_BROKER_URL,
        token=token,
        send_timeout_s=_seconds("HYREX_SEND_TIMEOUT", DEFAULT_SEND_TIMEOUT_S),
        cells=load("hyrex.cells").trusted_cells(cells, token) if cells else None,
    )


def cells_text() -> str:
    """What HYREX_CELLS says; empty without cells."""
    return os.environ.get("HYREX_CELLS", "").strip()


def entrust_token(token: str | None) -> None:
    """Use this token if the environment has none. Call it before the first send of the process.

    A worker passes its token to its children in this way, and not by the environment, which the processes
    that user code starts would inherit.
    """
    global _entrusted
    _entrusted = token


def read_token() -> str | None:
    """The token from HYREX_TOKEN or from the file HYREX_TOKEN_FILE; in a worker's child, else the worker's.

    None if there is no token.
    Raises: ValueError if the file is empty or cannot be read, or if both variables are set.
    """
    token, path = os.environ.get("HYREX_TOKEN"), os.environ.get("HYREX_TOKEN_FILE")
    if not path:
        return usable_token("HYREX_TOKEN", token) if token else _entrusted
    if token:
        raise ValueError("HYREX_TOKEN and HYREX_TOKEN_FILE are both set; keep one")
    try:
        text = Path(path).read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"HYREX_TOKEN_FILE {path}: cannot be read ({error})") from None
    if not text.strip():
        raise ValueError(f"HYREX_TOKEN_FILE {path}: the file is empty; is a secret missing?")
    first = next(line for line in text.splitlines() if line.strip())
    return usable_token(f"HYREX_TOKEN_FILE {path}", first)


def usable_token(name: str, token: str) -> str:
    """The token without surrounding spaces and line ends, which files of secrets often have. Of several, as
    brokers take them, the first.

    Raises: ValueError if it cannot be sent in a header.
    """
    kept = token.split(",")[0].strip()
    if not kept or not kept.isascii() or not kept.isprintable():
        raise ValueError(f"{name} must have visible ASCII characters only: no other token can be sent")
    return kept


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
