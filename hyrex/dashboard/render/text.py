"""Text that came from users, shown so that it cannot pretend to be something else.

HTML is escaped by the template engine. What is left are characters that change how their neighbours look:
controls, and the marks of writing direction, with which "gpj.exe" looks like "exe.jpg".
"""

import re

from hyrex.runtime.shell import HIDDEN

__all__ = ["HIDDEN", "shortened", "visible"]


def visible(text: str) -> str:
    """The text with every character that is hidden, or moves others, written as its escape."""
    return HIDDEN.sub(_escape, text)


def shortened(text: str, most: int) -> str:
    """The text, cut after so many characters with an ellipsis."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _escape(match: re.Match[str]) -> str:
    number = ord(match[0])
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
