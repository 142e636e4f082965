"""What a frame costs: `python -m benchmarks.frames [FRAMES]`. A server stores nothing and answers after 2 ms.

First frames of one task, one after the other, as calls and over one stream: milliseconds, and CPU
microseconds of both sides. Then plain send() from more and more threads of one process.
"""

import sys
import time

from benchmarks.processes import Process, actor
from benchmarks.usage import own_seconds

DELAY_MS = 2
FRAMES = 1_000
THREADS = (1, 2, 4, 8, 16, 32)
PATIENCE_S = 120.0


def main() -> int:
    """The exit status."""
    frames = int(sys.argv[1]) if len(sys.argv) > 1 else FRAMES
    command = [sys.executable, "-m", "benchmarks.actors.hollow_broker", str(DELAY_MS)]
    server = Process("hollow broker", command)
    try:
        port = server.wait_for(r"hollow broker on (\d+)")[1]
        env = {"HYREX_BROKER_URL": f"grpc://127.0.0.1:{port}"}
        _compare_frames(server, actor("frame_sender", env=env), frames)
        _send_from_threads(actor("sdk_sender", env=env), frames // 2)
    finally:
        server.terminate()
    return 0


def _compare_frames(server: Process, sender: Process, frames: int) -> None:
    for _ in range(2):
        for stream in (False, True):
            sender.ask(PATIENCE_S, frames=frames // 5, stream=stream)
            before = own_seconds(sender.pid), own_seconds(server.pid)
            took_ms = sender.ask(PATIENCE_S, frames=frames, stream=stream)["ms"]
            after = own_seconds(sender.pid), own_seconds(server.pid)
            client, served = (round((b - a) * 1e6 / frames) for a, b in zip(before, after, strict=True))
            way = "a frame of a stream" if stream else "a call"
            print(f"{way:20} {took_ms:.2f} ms, CPU {client} us in the client, {served} us in the server")
    sender.terminate()


def _send_from_threads(sender: Process, sends: int) -> None:
    sender.ask(PATIENCE_S, count=sends, threads=1)
    for threads in THREADS:
        count = sends * threads
        cpu_s, began = own_seconds(sender.pid), time.monotonic()
        sender.ask(PATIENCE_S, count=count, threads=threads)
        took_s, cpu_s = time.monotonic() - began, own_seconds(sender.pid) - cpu_s
        print(f"{threads:2} threads  {count / took_s:6.0f} sends/s, CPU {cpu_s * 1e6 / count:.0f} us a send")
    sender.terminate()


if __name__ == "__main__":
    sys.exit(main())
