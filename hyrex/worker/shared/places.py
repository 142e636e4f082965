"""Finds where a user's own code raised an error: by that failures are grouped.

That is the innermost frame that is neither of Python, nor of this package, nor of an installed library. An
application may be installed as libraries are: what lies in the package of the outermost frame, which is that
of the task's function, is the user's wherever it lies.
"""

import os
import sysconfig
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final

import hyrex

MOST_BYTES: Final = 255
_HERE: Final = str(Path(hyrex.__file__).parent) + os.sep
_PYTHON: Final = tuple(
    {
        str(Path(sysconfig.get_path(name)).resolve()) + os.sep
        for name in ("stdlib", "platstdlib")
        if sysconfig.get_path(name)
    }
    | {sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib") if sysconfig.get_path(name)}
)
_INSTALLED: Final = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def own_place(trace: TracebackType | None) -> str:
    """Module, line and function, as `shop.mail:41 in send`; empty where no frame is the user's. It may raise
    what odd names of modules raise."""
    found, own = "", ""
    while trace is not None:
        frame = trace.tb_frame
        own = own or _package(frame)
        if _is_own(frame, own):
            found = f"{_module(frame)}:{trace.tb_lineno} in {_function(frame)}"
        trace = trace.tb_next
    return found.encode("utf-8", "replace").replace(b"\0", b"?")[-MOST_BYTES:].decode(errors="ignore")


def _is_own(frame: FrameType, own: str) -> bool:
    file = frame.f_code.co_filename
    if file.startswith(("<", _HERE)):
        return False
    if any(part in file for part in _INSTALLED):
        return _package(frame) == own
    return not file.startswith(_PYTHON)


def _package(frame: FrameType) -> str:
    return _module(frame).partition(".")[0]


def _module(frame: FrameType) -> str:
    name = frame.f_globals.get("__name__")
    return str.__str__(name) if isinstance(name, str) else ""


def _function(frame: FrameType) -> str:
    return frame.f_code.co_qualname
