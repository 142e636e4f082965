"""How far a run is, by its own word: the newest only."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

__all__ = ["TEXT_BYTES", "RunProgress", "checked_progress"]

TEXT_BYTES: Final = 1024


@dataclass(frozen=True, slots=True)
class RunProgress:
    """What a run said last: `done` of `total` (None: it does not know), a text, and when that was stored."""

    done: float
    total: float | None
    text: str
    updated: datetime

    def __str__(self) -> str:
        amount = f"{self.done:g}" if self.total is None else f"{self.done:g} of {self.total:g}"
        return f"{amount} {self.text}".rstrip()


def checked_progress(done: float, total: float | None, text: str) -> RunProgress:
    """Progress of now. Raises ValueError, TypeError for what cannot be shown."""
    for name, value in (("done", done), ("total", total)):
        if value is None and name == "total":
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"progress {name} must be a number, not {value!r}")
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"progress {name} must be finite and not negative, not {value!r}")
    if not isinstance(text, str):
        raise TypeError(f"progress text must be a str, not {text!r}")
    if "\0" in text or len(text.encode("utf-8", "replace")) > TEXT_BYTES:
        raise ValueError(
            f"progress text must have at most {TEXT_BYTES} bytes of UTF-8 and no NUL: {text[:50]!r}"
        )
    storable = text.encode("utf-8", "replace").decode()
    return RunProgress(float(done), None if total is None else float(total), storable, datetime.now(UTC))
