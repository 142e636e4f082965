"""An environment for each peer below .cache/bench, made once. A peer that cannot be had is skipped."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.peers.catalogue import Peer
from benchmarks.processes import ROOT
from benchmarks.rounds import say

HOME: Final = ROOT / ".cache" / "bench"
CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
INSTALL_WITHIN_S: Final = 900.0


class Unavailable(Exception):
    """The peer cannot be measured on this machine; the text says why."""


def prepare(peer: Peer) -> Path:
    """The peer's environment. Raises: Unavailable."""
    missing = [program for program in peer.needs if shutil.which(program) is None]
    if missing:
        raise Unavailable(f"needs {' and '.join(missing)} on PATH")
    home = HOME / peer.name
    made_from = _fingerprint(peer)
    marker = home / ".made-from"
    if not marker.exists() or marker.read_text() != made_from:
        say(f"  installing {peer.name} (once)")
        _install(peer, home)
        marker.write_text(made_from)
    return home


def fill(command: Sequence[str], home: Path) -> list[str]:
    """A command with the environment's place in it."""
    return [part.replace("{env}", str(home)) for part in command]


def _install(peer: Peer, home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    if peer.files is not None:
        shutil.copytree(peer.files, home, dirs_exist_ok=True)
    certificates = {"NODE_EXTRA_CA_CERTS": str(CERTIFICATES)} if CERTIFICATES.exists() else {}
    for step in peer.install:
        try:
            done = subprocess.run(
                fill(step, home), capture_output=True, text=True, check=False, timeout=INSTALL_WITHIN_S,
                env=certificates | dict(os.environ),
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"not installed in {INSTALL_WITHIN_S:.0f} s") from error
        if done.returncode != 0:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise Unavailable(f"cannot be installed: {' '.join(last)}")


def _fingerprint(peer: Peer) -> str:
    files = sorted(peer.files.iterdir()) if peer.files is not None else []
    return "\n".join([repr(peer.install), *(file.read_text() for file in files)])
