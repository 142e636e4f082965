"""Which app `hyrex dev` runs, and whether its code can be imported, found out in a scratch process."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hyrex.cli.errors import CommandError
from hyrex.runtime.app_import import AT_IMPORT

CHECK_WITHIN_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Broken:
    """Why the user's code cannot be run; `traceback` is empty where the target itself names nothing."""

    place: str
    error: str
    traceback: str = ""

    def __str__(self) -> str:
        return f"{self.place} {self.error}".strip()


def chosen_target(given: str | None) -> str:
    """The target named, or app:app where there is an app.py. Raises: CommandError."""
    if given:
        return given if ":" in given else f"{given}:app"
    folder = Path(os.environ.get("HYREX_APP_DIR") or ".")
    if (folder / "app.py").exists() or (folder / "app" / "__init__.py").exists():
        return "app:app"
    if Path("src/app.py").exists() or Path("src/app/__init__.py").exists():
        raise CommandError("app is in src/; try `hyrex dev --app-dir src`", status=2)
    raise CommandError(
        "there is no app.py here. Name the application (`hyrex dev module:app`), "
        "or make a project with `hyrex init NAME`.",
        status=2,
    )


async def check(target: str) -> Broken | None:
    """Import the target elsewhere; None where that works."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "hyrex.cli.check_target", target),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(CHECK_WITHIN_S):
            answer, said = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return Broken("", f"importing {target} took longer than {CHECK_WITHIN_S:.0f} s; {AT_IMPORT}")
    return _judge(target, answer, said.decode("utf-8", "replace"), process.returncode)


def _judge(target: str, answer: bytes, said: str, status: int | None) -> Broken | None:
    if not answer:
        return Broken("", f"importing {target} ended Python with exit status {status}", said)
    found = json.loads(answer)
    if "invalid" in found:
        return Broken("", found["invalid"])
    if "error" in found:
        return Broken(found["place"], found["error"], found["traceback"])
    return None
