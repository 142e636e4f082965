"""What people who look cost a broker: `python -m benchmarks.viewers [SECONDS [ROUNDS [WORD ...]]]`.

A broker with 20 queues, 10 workers that hold 20 runs each, and 20 tasks sent a second. In turn nobody looks
and 50 do: at five pages of one dashboard with one token, or with a WatchCluster stream each, as `hyrex top`
has, with one token or with 50 that may see some of the queues. Printed is the broker's CPU time as a share
of one core, the median of the rounds. A WORD chooses those whose name has it.
"""

import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import median
from typing import Any, Final

import grpc

from benchmarks.guards import ROOT_TOKEN
from benchmarks.processes import Process
from benchmarks.stage import Broker, Stage
from benchmarks.usage import own_seconds
from hyrex.backend.ids import new_task_id
from hyrex.transport.token import bearer_metadata
from hyrex.v1 import admin_service_pb2 as admin
from hyrex.v1 import admin_service_pb2_grpc, task_pb2, task_service_pb2, task_service_pb2_grpc

VIEWERS: Final = 50
QUEUES: Final = 20
WORKERS: Final = 10
RUNS: Final = 20
SENT_PER_S: Final = 20
METADATA: Final = bearer_metadata(ROOT_TOKEN)
WITHIN_S: Final = 60.0
# The dashboard keeps its stream for ten seconds after the last page is closed.
SETTLE_S: Final = 12.0


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long each measurement is, how many there are, and how long to wait before those without viewers."""

    seconds: float
    rounds: int
    settle_s: float


def main(settle_s: float = SETTLE_S) -> int:
    """The exit status."""
    seconds, rounds = (float(sys.argv[1]) if sys.argv[1:] else 10.0), int(sys.argv[2]) if sys.argv[2:] else 2
    lengths = Lengths(seconds, rounds, settle_s)
    with Stage() as stage:
        broker = stage.broker(stage.database(), env={"HYREX_TOKEN": ROOT_TOKEN})
        with grpc.insecure_channel(broker.address) as channel, _busy(stage, broker, channel) as task_id:
            dashboard = _dashboard(stage, broker)
            lookers = stage.actor("lookers", broker.address, dashboard, ROOT_TOKEN)
            pages = ["/", "/queues", "/tasks", "/workers", f"/task?id={task_id}"]
            for name, order in {
                "pages of a dashboard": {"pages": list(islice(cycle(pages), VIEWERS))},
                "WatchCluster, one token": {"tokens": [ROOT_TOKEN] * VIEWERS},
                "WatchCluster, 50 narrow tokens": {"tokens": _narrow_tokens(channel)},
            }.items():
                if len(sys.argv) <= 3 or any(word in name for word in sys.argv[3:]):
                    _compare(name, broker, lookers, order, lengths)
    return 0


def _compare(name: str, broker: Broker, lookers: Process, order: Mapping[str, Any], lengths: Lengths) -> None:
    without, beside = [], []
    for _ in range(lengths.rounds):
        lookers.ask(WITHIN_S)
        time.sleep(lengths.settle_s)
        without.append(_share(broker, lengths.seconds))
        lookers.ask(WITHIN_S, **order)
        beside.append(_share(broker, lengths.seconds))
    more = median(with_ - alone for with_, alone in zip(beside, without, strict=True))
    print(
        f"{VIEWERS} {name:32} broker {median(without):5.2%} of a core without, {median(beside):5.2%} with:"
        f" {more:5.2%} more",
        flush=True,
    )


def _share(broker: Broker, seconds: float) -> float:
    began, used = time.monotonic(), own_seconds(broker.process.pid)
    time.sleep(seconds)
    return (own_seconds(broker.process.pid) - used) / (time.monotonic() - began)


def _dashboard(stage: Stage, broker: Broker) -> str:
    command = [sys.executable, "-m", "hyrex.dashboard", "--listen", "127.0.0.1:0", "--broker-url", broker.url]
    process = stage.keep(Process("dashboard", command))
    return process.wait_for(r"dashboard ready: (\S+)/")[1]


def _narrow_tokens(channel: grpc.Channel) -> list[str]:
    stub = admin_service_pb2_grpc.AdminServiceStub(channel)
    scopes = [admin.TOKEN_SCOPE_READ, admin.TOKEN_SCOPE_PAYLOAD]
    requests = (
        admin.CreateTokenRequest(name=f"viewer-{number}", scopes=scopes, queue_patterns=["bench", "queue-1*"])
        for number in range(VIEWERS)
    )
    return [stub.CreateToken(each, metadata=METADATA, timeout=WITHIN_S).secret for each in requests]


@contextmanager
def _busy(stage: Stage, broker: Broker, channel: grpc.Channel) -> Iterator[str]:
    """A cluster in which something happens; the id of a task that runs."""
    stub = task_service_pb2_grpc.TaskServiceStub(channel)
    crowd = stage.actor("crowd", broker.address, env={"HYREX_TOKEN": ROOT_TOKEN})
    crowd.ask(WITHIN_S, workers=WORKERS, capacity=RUNS)
    running = _send(stub, ["bench"] * WORKERS * RUNS)
    _send(stub, [f"queue-{number}" for number in range(QUEUES)] * 10)
    ended = threading.Event()

    def send() -> None:
        while not ended.wait(1.0):
            _send(stub, [f"queue-{number % QUEUES}" for number in range(SENT_PER_S)])

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield running[0]
    finally:
        ended.set()
        sender.join()


def _send(stub: Any, queues: Sequence[str]) -> list[str]:
    tasks = [
        task_pb2.NewTask(task_id=new_task_id(), name="handle", queue=queue, payload=b'{"number": 1}')
        for queue in queues
    ]
    request = task_service_pb2.SubmitTasksRequest(tasks=tasks)
    answer = stub.SubmitTasks(request, metadata=METADATA, timeout=WITHIN_S)
    if refused := next((result.error for result in answer.results if result.error.reason), None):
        raise RuntimeError(f"not stored: {refused}")
    return [task.task_id for task in tasks]


if __name__ == "__main__":
    sys.exit(main())
