"""What the programs of this package have in common: flags, one line for each problem, the loop."""

import asyncio
import sys
from collections.abc import Container, Mapping
from typing import Any, Final

OK: Final = 0
FAILED: Final = 1
BAD_CONFIG: Final = 2
NO_DATABASE: Final = 3
UNFIT_DATABASE: Final = 4
NO_ADDRESS: Final = 5


class BadConfig(Exception):
    """The configuration is not usable; the text is one line."""


def run_loop(work: Any) -> None:
    """Run a coroutine on the quickest loop there is."""
    try:
        import uvloop
    except ImportError:  # not on Windows
        asyncio.run(work)
    else:
        uvloop.run(work)


def listen_address(text: str) -> tuple[str, str]:
    """Host and port. Raises BadConfig."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal():
        raise BadConfig(f"--listen {text}: must be HOST:PORT, for instance 127.0.0.1:50051")
    return host.removeprefix("[").removesuffix("]"), port


def problem_text(problem: Any, flags: Mapping[str, str], secrets: Container[str]) -> str:
    """One line for one problem, by the flag's name and without the value of a secret."""
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return message
    field = str(problem["loc"][0])
    value = "" if field in secrets else f" {problem['input']}"
    return f"{flags.get(field, field)}{value}: {message}"


def software_version() -> str:
    """The version of this software."""
    from importlib.metadata import version

    return version("hyrex")


def end_with(status: int, text: str, *, program: str) -> int:
    """Say why a program ends; return its exit status."""
    print(f"{program}: {text}", file=sys.stderr, flush=True)
    return status
