"""Tracebacks: the user's own frames open, those of libraries folded."""

import re
from dataclasses import dataclass
from typing import Final

FRAME: Final = re.compile(r'^\s*File "(?P<file>.+?)", line (?P<line>\d+)(?:, in (?P<name>.+))?\s*$')
FOREIGN: Final = re.compile(
    r"site-packages|dist-packages|[/\\]lib[/\\]python\d|[/\\]hyrex[/\\]|^<frozen |[/\\]importlib[/\\]"
)
MOST_LINES: Final = 2000


@dataclass(frozen=True, slots=True)
class Part:
    """Lines that are shown together; `folded`: frames of libraries, `count` of them."""

    text: str
    folded: bool
    count: int


def parts_of(traceback: str) -> list[Part]:
    """A traceback in parts. One without a frame of the user's is one open part."""
    lines = traceback.rstrip("\n").split("\n")[:MOST_LINES]
    parts: list[Part] = []
    foreign = False
    for line in lines:
        frame = FRAME.match(line)
        if frame is not None:
            foreign = FOREIGN.search(frame["file"]) is not None
        elif not line.startswith((" ", "\t")):
            foreign = False
        _add(parts, line, foreign, frame is not None)
    if not any(part.count for part in parts if not part.folded):
        return [Part("\n".join(lines), False, 0)]
    return parts


def _add(parts: list[Part], line: str, foreign: bool, begins: bool) -> None:
    if parts and parts[-1].folded == foreign:
        last = parts.pop()
        parts.append(Part(f"{last.text}\n{line}", foreign, last.count + begins))
    else:
        parts.append(Part(line, foreign, int(begins)))
