"""What the bytes of payloads and results are."""

__all__ = ["is_json"]


def is_json(content_type: str, codec: str = "") -> bool:
    """True for JSON as Hyrex itself writes it, to which an empty type is an abbreviation."""
    return not codec and content_type in ("", "application/json")
