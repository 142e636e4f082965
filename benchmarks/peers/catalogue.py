"""The peers: what each needs, how it is installed, and how its producer and its workers are started.

A producer is an actor: the order {"count": N} makes it send N tasks and wait until the last one has
ended; it answers when it began and ended. Its start prepares the schema, so it goes before the workers.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PROGRAMS: Final = Path(__file__).with_name("programs")
MODULE: Final = "benchmarks.peers.programs"


@dataclass(frozen=True, slots=True)
class Peer:
    """One peer. In commands, {env} is the environment's folder."""

    name: str
    install: Sequence[Sequence[str]]
    producer: Sequence[str]
    worker: Sequence[str]
    workers: int = 1
    needs: Sequence[str] = ()
    files: Path | None = field(default=None)
    """Copied into the environment before the installation."""


def _python(name: str, requirements: Sequence[str], worker: Sequence[str], **more: object) -> Peer:
    python = "{env}/bin/python"
    return Peer(
        name=name,
        install=[
            [sys.executable, "-m", "venv", "{env}"],
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements],
        ],
        producer=[python, "-m", f"{MODULE}.{name}_queue", "produce"],
        worker=worker,
        **more,  # type: ignore[arg-type]
    )


PEERS: Final = (
    _python(
        "pgqueuer",
        ["pgqueuer[asyncpg]==1.6.0", "uvloop"],
        ["{env}/bin/python", "-m", f"{MODULE}.pgqueuer_queue", "work"],
        workers=2,
    ),
    _python(
        "procrastinate",
        ["procrastinate==3.10.0", "psycopg[binary,pool]"],
        ["{env}/bin/python", "-m", f"{MODULE}.procrastinate_queue", "work"],
        workers=2,
    ),
    _python(
        "celery",
        ["celery[redis]==5.7.0"],
        [
            "{env}/bin/celery",
            "-A",
            f"{MODULE}.celery_queue",
            "worker",
            "--concurrency",
            "2",
            "-l",
            "WARNING",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ],
        needs=["redis-server"],
    ),
    _python(
        "dramatiq",
        ["dramatiq[redis]==2.2.1"],
        ["{env}/bin/dramatiq", f"{MODULE}.dramatiq_queue", "--processes", "2", "--threads", "8"],
        needs=["redis-server"],
    ),
    Peer(
        name="graphile",
        install=[["npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", "{env}"]],
        producer=["node", "{env}/produce.js"],
        worker=["node", "{env}/work.js"],
        workers=2,
        needs=["node", "npm"],
        files=PROGRAMS / "graphile",
    ),
    Peer(
        name="river",
        install=[["go", "build", "-C", "{env}", "-mod=mod", "-o", "river", "."]],
        producer=["{env}/river", "produce"],
        worker=["{env}/river", "work"],
        needs=["go"],
        files=PROGRAMS / "river",
    ),
)
