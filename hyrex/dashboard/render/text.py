"""Text that came from users, shown so that it cannot pretend to be something else.

HTML is escaped by the template engine. What is left are characters that change how their neighbours look:
controls, and the marks of writing direction, with which "gpj.exe" looks like "exe.jpg".
"""

import re
from typing import Final

HIDDEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)

SAFE_WORD: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./:@%+=,-]*")


def visible(text: str) -> str:
    """The text with every character that is hidden, or moves others, written as its escape."""
    return HIDDEN.sub(_escape, text)


def shortened(text: str, most: int) -> str:
    """The text, cut after so many characters with an ellipsis."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def shell_word(text: str) -> str:
    """Text as one word for a shell. What a terminal would obey when it is pasted is written as an escape."""
    if SAFE_WORD.fullmatch(text):
        return text
    if text.isprintable() and not HIDDEN.search(text):
        return "'" + text.replace("'", "'\\''") + "'"
    return "$'" + "".join(_shell_letter(letter) for letter in text) + "'"


def _shell_letter(letter: str) -> str:
    if letter.isascii() and letter.isprintable() and letter not in "'\\":
        return letter
    return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", "replace"))


def _escape(match: re.Match[str]) -> str:
    number = ord(match[0])
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
