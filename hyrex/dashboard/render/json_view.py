"""JSON set out for reading, character by character as it was sent: no number is parsed and printed anew.

So 12345678901234567890 stays what it is, and so do 1.10, 1e400 and keys that stand there twice.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

from hyrex.dashboard.render.text import visible
from hyrex.runtime.content import is_json

SHOWN_BYTES: Final = 64 * 1024
DUMPED_BYTES: Final = SHOWN_BYTES // 8
DEEPEST: Final = 200
LOOKS: Final = ("laid out", "raw", "hex")
"""JSON with indents, characters as they were sent, or bytes. What is no text is always bytes."""
TOKEN: Final = re.compile(
    r'\s*(?:(?P<string>"(?:[^"\\]|\\.)*")|(?P<number>-?\d[0-9.eE+-]*)|(?P<word>-?[A-Za-z]+)|(?P<mark>[][{},:]))'
)


@dataclass(frozen=True, slots=True)
class Content:
    """A payload or result as it is shown. `kind`: json, text, binary or empty."""

    kind: str
    html: Markup
    size: int
    cut: bool


def content(data: bytes, content_type: str, codec: str = "", look: str = "laid out") -> Content:
    """Bytes as people can read them; the first 64 KiB of what is longer, in hexadecimal 8 KiB.
    `look`: one of LOOKS."""
    if not data:
        return Content("empty", Markup(""), 0, False)
    cut = len(data) > SHOWN_BYTES
    shown = data[:SHOWN_BYTES]
    if look == "hex" or codec or not _is_text(content_type):
        return _as_hexadecimal(data)
    try:
        text = shown.decode("utf-8", "ignore" if cut else "strict")
    except UnicodeDecodeError:
        return _as_hexadecimal(data)
    laid_out = None if cut or look == "raw" else json_html(text)
    if laid_out is None:
        return Content("text", Markup(escape(visible(text))), len(data), cut)
    return Content("json", laid_out, len(data), False)


def _as_hexadecimal(data: bytes) -> Content:
    shown = data[:DUMPED_BYTES]
    return Content("binary", Markup(escape(dump(shown))), len(data), len(data) > len(shown))


def json_html(text: str) -> Markup | None:
    """JSON with indents and spans for colours; None if it is no JSON, or too deep to be read."""
    try:
        json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return None
    tokens = [(match.lastgroup or "", match[match.lastgroup or 0]) for match in TOKEN.finditer(text)]
    return Markup("").join(_laid_out(tokens)) if _depth(tokens) <= DEEPEST else None


def dump(data: bytes) -> str:
    """Bytes as offset, hexadecimal and ASCII."""
    lines = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{at:08x}  {row.hex(' '):<47}  {letters}")
    return "\n".join(lines)


def _is_text(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return is_json(kind) or kind.startswith("text/") or kind.endswith("+json")


def _depth(tokens: list[tuple[str, str]]) -> int:
    depth = deepest = 0
    for _, text in tokens:
        depth += (text in "[{") - (text in "]}") if len(text) == 1 else 0
        deepest = max(deepest, depth)
    return deepest


def _laid_out(tokens: list[tuple[str, str]]) -> Iterator[Markup]:
    depth = 0
    for at, (kind, text) in enumerate(tokens):
        after = tokens[at + 1][1] if at + 1 < len(tokens) else ""
        if kind != "mark":
            yield _coloured("key" if kind == "string" and after == ":" else kind, text)
        elif text in "[{":
            depth += 1
            yield Markup(text) + (Markup("") if after in ("]", "}") else _line(depth))
        elif text in "]}":
            depth -= 1
            before = tokens[at - 1][1]
            yield (Markup("") if before in ("[", "{") else _line(depth)) + Markup(text)
        else:
            yield Markup(": ") if text == ":" else Markup(",") + _line(depth)


def _coloured(kind: str, text: str) -> Markup:
    return Markup('<span class="json-{}">{}</span>').format(kind, visible(text))


def _line(depth: int) -> Markup:
    return Markup("\n" + "  " * depth)
