"""What the bytes of payloads and results are."""

import json

__all__ = ["compact_json", "is_json"]


def is_json(content_type: str, codec: str = "") -> bool:
    """True for JSON as Hyrex itself writes it, to which an empty type is an abbreviation."""
    return not codec and content_type in ("", "application/json")


def compact_json(text: str) -> bytes:
    """A JSON value that a person wrote, as the SDKs write it.

    Raises ValueError for what is none: also NaN, and numbers that no float can hold, which Python reads.
    """
    try:
        value = json.loads(text)
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
