"""Workers that come at once, and come back when their broker is killed: `python -m benchmarks.arrivals [N]`.

Real sessions, a connection each, from four processes, with up to a second of jitter before they come back.
Printed: how long until the last is welcomed, what somebody else's sends took meanwhile, the longest time that
the broker did not answer a health check, and its memory.
"""

import socket
import sys
import threading
import time
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.latency import percentile
from benchmarks.processes import Process
from benchmarks.stage import BROKER_READY, Broker, Stage
from benchmarks.usage import rss_mb

WORKERS: Final = 2000
PROCESSES: Final = 4
JITTER_S: Final = 1.0
WITHIN_S: Final = 120.0


class HealthChecks:
    """Asks for a broker's health again and again; the longest wait for an answer."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._stop = threading.Event()
        self.longest_s = 0.0
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        with grpc.insecure_channel(self._address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while not self._stop.wait(0.01):
                began = time.monotonic()
                try:
                    stub.Check(health_pb2.HealthCheckRequest(), timeout=WITHIN_S, wait_for_ready=True)
                except grpc.RpcError:
                    continue
                self.longest_s = max(self.longest_s, time.monotonic() - began)

    def end(self) -> float:
        """Stop; the longest wait in seconds."""
        self._stop.set()
        self._thread.join()
        return self.longest_s


def main() -> int:
    """The exit status."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else WORKERS
    with Stage() as stage:
        database, listen = stage.database(), f"127.0.0.1:{_free_port()}"
        broker = _broker(stage, database, listen)
        pacer = stage.actor("pacer", env={"HYREX_BROKER_URL": f"grpc://{listen}"})
        pacer.ask(WITHIN_S, sends=20)
        crowd = [stage.actor("returning_workers", listen, str(JITTER_S)) for _ in range(PROCESSES)]
        _round("they come", broker, pacer, crowd, workers=count // PROCESSES)
        broker.process.kill()
        _round("they come back", _broker(stage, database, listen), pacer, crowd, again=True)
    return 0


def _round(name: str, broker: Broker, pacer: Process, crowd: list[Process], **order: Any) -> None:
    checks, began = HealthChecks(broker.address), time.monotonic()
    for each in crowd:
        each.order(**order)
    sends: list[float] = []
    waiting = threading.Thread(target=lambda: answers.extend(each.answer(WITHIN_S) for each in crowd))
    answers: list[dict[str, Any]] = []
    waiting.start()
    while waiting.is_alive():
        sends += pacer.ask(WITHIN_S, sends=10)["ms"]
    last_s = max(answer["last"] for answer in answers) - began
    print(
        f"{name:16} all after {last_s:5.1f} s, resumed {sum(each['resumed'] for each in answers)};"
        f" others' sends p50 {percentile(sends, 50):.0f}, p99 {percentile(sends, 99):.0f},"
        f" worst {max(sends):.0f} ms; longest health check {checks.end() * 1000:.0f} ms;"
        f" broker {rss_mb([broker.process.pid]):.0f} MB",
        flush=True,
    )


def _broker(stage: Stage, database: str, listen: str) -> Broker:
    command = [sys.executable, "-m", "hyrex_broker", "--listen", listen]
    process = stage.keep(Process("broker", command, {"HYREX_DATABASE_URL": database}))
    return Broker(process, process.wait_for(BROKER_READY)[1])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
