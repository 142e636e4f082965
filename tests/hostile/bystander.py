"""Somebody else at an attacked broker: asks for one task again and again, and tells how long it took.

`python -m tests.hostile.bystander ADDRESS TOKEN TASK_ID` prints a line for each call: when it began
(seconds of the machine's monotonic clock, which all its processes share), how long it took, and its status. A
process of its own: the attackers' own work must not count, nor how long this process was ready to go on and
had no core. How long the broker had none does count: threads of its own may have kept it from one.
"""

import sys
import time
from pathlib import Path
from typing import Final

import grpc

from hyrex.v1 import task_service_pb2, task_service_pb2_grpc

_EVERY_S: Final = 0.01
_WITHIN_S: Final = 30.0


def kept_waiting_s() -> float:
    """How long this process's first thread has waited for a core until now (Linux; elsewhere nothing)."""
    try:
        return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


def main(address: str, token: str, task_id: str) -> None:
    """Ask until killed."""
    with grpc.insecure_channel(address) as channel:
        get = task_service_pb2_grpc.TaskServiceStub(channel).GetTask
        request = task_service_pb2.GetTaskRequest(task_id=task_id)
        metadata = (("authorization", f"Bearer {token}"),)
        while True:
            began, status = time.monotonic(), "OK"
            waited_s = kept_waiting_s()
            try:
                get(request, timeout=_WITHIN_S, metadata=metadata)
            except grpc.RpcError as error:
                status = error.code().name
            took = time.monotonic() - began
            print(began, max(0.0, took - (kept_waiting_s() - waited_s)), status, flush=True)
            time.sleep(_EVERY_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
