"""Starts Postgres, a broker and two workers, runs the survey over them, and stops them again."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hyrex.testing.live import live_broker, live_hyrex

TARGET = "examples.survey.tasks:app"


def main() -> int:
    """The survey's exit status."""
    root = Path(__file__).parent.parent
    os.chdir(root)
    sys.path.insert(0, str(root))
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="hyrex-demo-") as folder,
        live_broker(Path(folder)) as broker,
        live_hyrex(broker) as live,
    ):
        print(f"private Postgres and broker {broker.url}", flush=True)
        for name in ("worker-1", "worker-2"):
            live.start_worker(TARGET, "-p", "1", "--name", name)
        print(
            f"2 workers for {TARGET}, a process each; ready in {time.monotonic() - began:.1f} s", flush=True
        )
        environment = os.environ | {"HYREX_BROKER_URL": broker.url, "HYREX_CELLS": ""}
        command = [sys.executable, "-m", "examples.survey", *sys.argv[1:]]
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
