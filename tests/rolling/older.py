"""An older version of Hyrex in a folder and an environment of its own, made of what git has."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support.process import ROOT

REF: Final = "HYREX_OLDER_REF"
_WITHIN_S: Final = 240.0


@dataclass(frozen=True, slots=True)
class Version:
    """A version that can be run. `path`: what its processes have as PYTHONPATH beside their programs."""

    name: str
    python: str
    path: str = ""
    is_release: bool = False


THIS: Final = Version("this", sys.executable, str(ROOT))


def older() -> Version:
    """The version that HYREX_OLDER_REF names, else that of the newest release. Skips, by name, where there
    is none, or it cannot be installed."""
    ref = os.environ.get(REF) or _newest_release()
    if ref is None:
        pytest.skip(f"there is no release yet (no tag v*) to roll from; {REF} names another commit")
    commit = _git("rev-parse", "--verify", f"{ref}^{{commit}}")
    home = ROOT / ".cache" / "older" / commit
    if not (home / "made").exists():
        _make(home, commit)
    is_release = _git("tag", "--list", "v*", "--points-at", commit) != ""
    return Version(f"{ref} ({commit[:10]})", str(home / "venv/bin/python"), is_release=is_release)


def _newest_release() -> str | None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        return None
    return next(iter(_git("tag", "--list", "v*", "--sort=-version:refname").splitlines()), None)


def _make(home: Path, commit: str) -> None:
    shutil.rmtree(home, ignore_errors=True)
    (home / "source").mkdir(parents=True)
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", str(home / "source")], input=archive.stdout, check=True)
    wanted, python = f"{home / 'source'}[broker]", str(home / "venv" / "bin" / "python")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home / "venv")], check=True)
    uv, pip = shutil.which("uv"), [sys.executable, "-m", "pip"]
    command = [uv, "pip", "install"] if uv else [*pip, "--python", python, "install", "--quiet"]
    more = ["--python", python] if uv else []
    try:
        done = subprocess.run(
            [*command, *more, wanted], capture_output=True, text=True, timeout=_WITHIN_S, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"{commit[:10]} cannot be installed here within {_WITHIN_S:g} s")
    if done.returncode:
        pytest.skip(f"{commit[:10]} cannot be installed here: {done.stderr.strip()[-300:]}")
    (home / "made").touch()


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
