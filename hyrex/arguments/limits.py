"""The limit of a task's payload, and how many are decoded together."""

from typing import Final

from hyrex.errors import PayloadTooLarge

__all__ = ["LOT", "PAYLOAD_LIMIT_BYTES", "checked_payload"]

PAYLOAD_LIMIT_BYTES: Final = 4 * 1024 * 1024
LOT: Final = 32


def checked_payload(task_name: str, payload: bytes, most_bytes: int = PAYLOAD_LIMIT_BYTES) -> bytes:
    """Return the payload. Raises PayloadTooLarge."""
    if len(payload) > most_bytes:
        raise PayloadTooLarge(task_name, len(payload), most_bytes)
    return payload
