"""Where the CPU time of one process goes during a cycle.

`python -m benchmarks.profile PROCESS [--cycle sdk_cycle] [--tasks N] [--out FILE]`: PROCESS is broker,
worker_stream, children, producer or, for sql_cycle, sql_client. Samples it with py-spy (installed once
below .cache/bench) and prints the functions in which it spends its time, by themselves and with what
they call; FILE gets the raw stacks, which any flame graph program reads. Only threads that hold the GIL
are counted: a waiting one looks busy on a loaded machine. gRPC's core, outside the GIL, is not seen.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks import cycles
from benchmarks.peers.environment import HOME
from benchmarks.rounds import spent
from benchmarks.stage import Stage

RATE_HZ = 200
SHOWN = 30


def main() -> int:
    """The exit status."""
    options = _options()
    spy = _spy()
    with Stage() as stage, tempfile.TemporaryDirectory() as folder:
        out = options.out or Path(folder) / "stacks"
        (contestant,) = cycles.contestants(stage, [options.cycle])
        contestant.round(max(options.tasks // 5, 1))
        pid = contestant.processes()[options.process][-1]
        command = f"{spy} record --gil -f raw -r {RATE_HZ} -d 3600 -o {out} -p {pid}".split()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as recorder:
            time.sleep(1)
            found = contestant.round(options.tasks)
            recorder.send_signal(signal.SIGINT)
        print(f"{options.process} during {options.cycle}: {spent(found.cpu_us)}, slowed down by the sampling")
        _print(out)
    return 0


def _print(out: Path) -> None:
    alone: Counter[str] = Counter()
    within: Counter[str] = Counter()
    for line in out.read_text().splitlines():
        stack, number = line.rsplit(" ", 1)
        count = int(number)
        frames = [frame.rsplit(":", 1)[0] for frame in stack.split(";")]
        alone[frames[-1]] += count
        within.update(dict.fromkeys(frames, count))
    total = max(sum(alone.values()), 1)
    for title, counts in (("by themselves", alone), ("with what they call", within)):
        print(f"\n{title}")
        for name, samples in counts.most_common(SHOWN):
            print(f"{100 * samples / total:5.1f}%  {name}")


def _spy() -> str:
    home = HOME / "py-spy"
    program = home / "bin" / "py-spy"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(home / "bin" / "python"), "-m", "pip", "install", "-q", "py-spy"], check=True)
    return str(program)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("process")
    parser.add_argument("--cycle", choices=cycles.NAMES, default="sdk_cycle")
    parser.add_argument("--tasks", type=int, default=50_000)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
