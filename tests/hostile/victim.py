"""A broker under attack: a real process with a token, what it takes, and what others notice.

    with victim.watched() as damage:
        ...                       # the attack
    damage.is_little(peak_mib=20)

The peak of its memory is the kernel's own (VmHWM), so no sampling can miss it. The longest pause of its loop
is the longest time that a bystander's GetTask took, asked every few milliseconds by a process of its own, but
for the time in which the machine had no core for them.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc

from hyrex.v1 import task_pb2, task_service_pb2, task_service_pb2_grpc
from tests.integration.storage.stage import make_id
from tests.support.eventually import eventually
from tests.support.process import Process
from tests.support.processes import Processes, RunningBroker

TOKEN: Final = "open-sesame"
BEARER: Final = (("authorization", f"Bearer {TOKEN}"),)
WITHIN_S: Final = 30.0
LONGEST_PAUSE_S: Final = 1.0
_DEFECTS: Final = ("Traceback", "a call failed unexpectedly", "a loop failed", "Unexpected [")
_LIMITS: Final = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))


@dataclass
class Damage:
    """What an attack did. All but `said` is known when its `with` block has ended."""

    peak_mib: float = 0.0
    """The most memory above what was held before."""
    kept_mib: float = 0.0
    """Memory above what was held before, when it was over."""
    waits_s: list[float] = field(default_factory=list)
    """How long each of the bystander's calls took that was under way during the attack."""
    failures: list[str] = field(default_factory=list)
    """Statuses of the bystander's calls that failed."""
    said: str = ""
    """What the broker logged."""

    @property
    def longest_s(self) -> float:
        """The longest pause that the bystander noticed."""
        return max(self.waits_s)

    @property
    def p99_s(self) -> float:
        """99 of 100 of the bystander's calls took no longer."""
        return sorted(self.waits_s)[int(len(self.waits_s) * 0.99)]

    def is_little(self, *, peak_mib: float, longest_s: float = LONGEST_PAUSE_S) -> None:
        """Nobody else noticed, the memory stayed bounded, and the log tells of no defect."""
        assert self.peak_mib < peak_mib, f"{self.peak_mib:.0f} MiB more than before"
        assert not self.failures, self.failures
        assert self.longest_s < longest_s, f"a bystander's GetTask took {self.longest_s:.2f} s"
        found = [defect for defect in _DEFECTS if defect in self.said]
        assert not found, self.said


class Victim:
    """A running broker with a bystander beside it."""

    def __init__(self, owner: Processes, broker: RunningBroker) -> None:
        self.broker = broker
        self.channel = open_channel(broker.address)
        self.task_id = self.submit(1)[0]
        where = (broker.address, TOKEN, self.task_id)
        bystander = [sys.executable, "-m", "tests.hostile.bystander", *where]
        quiet = {"GRPC_VERBOSITY": "NONE"}
        self._bystander: Process = owner.start("bystander", *bystander, env=quiet)
        self._bystander.wait_for("OK")

    @property
    def address(self) -> str:
        """host:port."""
        return self.broker.address

    @property
    def memory_mib(self) -> float:
        """What it holds now."""
        return self._status("VmRSS") / 1024

    def submit(self, count: int, queue: str = "quiet", payload: bytes = b"{}") -> list[str]:
        """Store tasks as an honest client does; their ids."""
        tasks = [
            task_pb2.NewTask(task_id=make_id(), name="attacked", queue=queue, payload=payload)
            for _ in range(count)
        ]
        stub = task_service_pb2_grpc.TaskServiceStub(self.channel)
        request = task_service_pb2.SubmitTasksRequest(tasks=tasks)
        answer = stub.SubmitTasks(request, timeout=WITHIN_S, metadata=BEARER)
        assert not [result for result in answer.results if result.HasField("error")]
        return [task.task_id for task in tasks]

    @contextmanager
    def watched(self) -> Iterator[Damage]:
        """Measure what happens inside."""
        damage, heard = Damage(), len(self.broker.process.output)
        Path(f"/proc/{self.broker.process.pid}/clear_refs").write_text("5")  # VmHWM begins anew
        before, began = self._status("VmRSS"), time.monotonic()
        yield damage
        ended = time.monotonic()
        assert self.broker.process.running, f"the broker died\n{self.broker.process.output[-3000:]}"
        damage.peak_mib = (self._status("VmHWM") - before) / 1024
        damage.kept_mib = (self._status("VmRSS") - before) / 1024
        # Up to the first call that began after the attack: whatever was under way has been told by then.
        calls = eventually(lambda: self._calls(began, ended), within_s=2 * WITHIN_S)
        during = [(took, status) for _, took, status in calls]
        damage.waits_s = [took for took, _ in during]
        damage.failures = [status for _, status in during if status != "OK"]
        damage.said = self.broker.process.output[heard:]

    def _calls(self, began: float, ended: float) -> list[tuple[float, float, str]]:
        """The bystander's calls after `began`, with the first one after `ended`; none until there is one."""
        lines = [line.split() for line in self._bystander.output.splitlines()]
        calls = [(float(at), float(took), status) for at, took, status in lines]
        after = next((place for place, (at, _, _) in enumerate(calls) if at > ended), None)
        return [] if after is None else [call for call in calls[: after + 1] if call[0] + call[1] > began]

    def _status(self, name: str) -> float:
        """A figure of the kernel's, in KiB."""
        lines = Path(f"/proc/{self.broker.process.pid}/status").read_text().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def least_noticed(victim: Victim, attack: Callable[[], None], attempts: int = 4) -> Damage:
    """What an attack did when a bystander noticed it least. A loaded machine keeps a broker waiting for a
    second as well, now and then; what an attack does, it does each time. Memory and failures: of all."""
    found: list[Damage] = []
    while not found or (found[-1].longest_s >= LONGEST_PAUSE_S and len(found) < attempts):
        with victim.watched() as damage:
            attack()
        found.append(damage)
    least = min(found, key=lambda each: each.longest_s)
    least.peak_mib = max(each.peak_mib for each in found)
    least.failures = [failure for each in found for failure in each.failures]
    return least


def open_channel(address: str) -> grpc.Channel:
    """A connection of its own, without the limits that an honest client has."""
    alone = (("grpc.use_local_subchannel_pool", 1),)
    return grpc.insecure_channel(address, options=(*_LIMITS, *alone))


def code_of(call: Callable[[], Any]) -> grpc.StatusCode:
    """The status that a call ends with."""
    try:
        call()
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


def at_once(calls: Sequence[Callable[[], Any]], threads: int = 20) -> list[grpc.StatusCode]:
    """The statuses of calls made by so many threads."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(code_of, calls))


def send(
    channel: grpc.Channel,
    method: str | bytes,
    *bodies: bytes,
    metadata: Iterable[tuple[str, str]] = (),
    compression: grpc.Compression | None = None,
) -> list[bytes]:
    """One call of any RPC ("/hyrex.v1.TaskService/GetTask") with raw messages; its answers, or its status.

    Whether an RPC is a stream does not matter to gRPC's wire.
    """
    stream: Any = channel.stream_stream
    call = stream(method)(iter(bodies), timeout=WITHIN_S, metadata=tuple(metadata), compression=compression)
    return list(call)
