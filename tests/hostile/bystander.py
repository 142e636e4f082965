"""Somebody else at an attacked broker: asks for one task again and again, and tells how long it took.

`python -m tests.hostile.bystander ADDRESS TOKEN TASK_ID` prints a line for each call: when it began (seconds
of the machine's monotonic clock, which all its processes share), how long it took, and its status. A process
of its own: the attackers' own work must not count.
"""

import sys
import time
from typing import Final

import grpc

from hyrex.v1 import task_service_pb2, task_service_pb2_grpc

_EVERY_S: Final = 0.01
_WITHIN_S: Final = 30.0


def main(address: str, token: str, task_id: str) -> None:
    """Ask until killed."""
    with grpc.insecure_channel(address) as channel:
        get = task_service_pb2_grpc.TaskServiceStub(channel).GetTask
        request = task_service_pb2.GetTaskRequest(task_id=task_id)
        metadata = (("authorization", f"Bearer {token}"),)
        while True:
            began, status = time.monotonic(), "OK"
            try:
                get(request, timeout=_WITHIN_S, metadata=metadata)
            except grpc.RpcError as error:
                status = error.code().name
            print(began, time.monotonic() - began, status, flush=True)
            time.sleep(_EVERY_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
