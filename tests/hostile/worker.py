"""A worker without manners, frame by frame: what it sends and whether it reads is the test's to say."""

import queue
from collections.abc import Iterator
from typing import Any, Final

import grpc

from hyrex.v1 import worker_service_pb2 as wire
from tests.hostile.victim import BEARER, WITHIN_S
from tests.protocol_abuse.abuser import hello, work

_END: Final = None


class RawWorker:
    """One Work stream. It reads only when told to."""

    def __init__(self, channel: grpc.Channel, **changes: Any) -> None:
        self._out: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._beats = 0
        self.send(hello(**changes))
        self.call = work(channel)(self._frames(), timeout=2 * WITHIN_S, metadata=BEARER)

    def _frames(self) -> Iterator[bytes]:
        while (frame := self._out.get()) is not _END:
            yield frame

    def send(self, frame: wire.WorkRequest) -> None:
        """Queue a frame."""
        self._out.put(frame.SerializeToString())

    def read(self, kind: str) -> Any:
        """The next frame of that kind; what comes before it is dropped."""
        while True:
            frame = next(self.call)
            if frame.WhichOneof("frame") == kind:
                return getattr(frame, kind)

    def tell(self, *pools: wire.PoolCapacity) -> None:
        """Say another capacity, and have it stored by a heartbeat."""
        self.send(wire.WorkRequest(capacity=wire.CapacityUpdate(pools=pools)))
        self._beats += 1
        self.send(wire.WorkRequest(heartbeat=wire.Heartbeat(sequence=self._beats)))
        self.read("heartbeat_ack")

    def welcome(self) -> Any:
        """The answer to its Hello."""
        return self.read("welcome")

    def code(self) -> grpc.StatusCode:
        """How the stream ends, when all that comes before is read."""
        try:
            for _ in self.call:
                pass
        except grpc.RpcError:
            pass
        code: grpc.StatusCode = self.call.code()
        return code

    def close(self) -> None:
        """End the stream from this side."""
        self._out.put(_END)
        self.call.cancel()


def serving(queue_name: str, capacity: int = 10) -> dict[str, Any]:
    """What a Hello says to serve the task `attacked` of one queue."""
    return {
        "queue_patterns": [queue_name],
        "tasks": [wire.TaskDefinition(name="attacked", queue=queue_name, pool="all")],
        "capacity": [wire.PoolCapacity(pool="all", maximum=capacity)],
    }
