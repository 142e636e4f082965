"""Text as one word for a shell, harmless to the terminal in which it is shown and pasted."""

import re
from typing import Final

__all__ = ["HIDDEN", "shell_word"]

HIDDEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
"""Characters that are not seen, or change how their neighbours look: controls and marks of direction."""

_SAFE_WORD: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./:@%+=,-]*")


def shell_word(text: str) -> str:
    """Text as one word for a shell. What a terminal would obey when it is pasted is written as an escape."""
    if _SAFE_WORD.fullmatch(text):
        return text
    if text.isprintable() and not HIDDEN.search(text):
        return "'" + text.replace("'", "'\\''") + "'"
    return "$'" + "".join(_letter(letter) for letter in text) + "'"


def _letter(letter: str) -> str:
    if letter.isascii() and letter.isprintable() and letter not in "'\\":
        return letter
    return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", "replace"))
