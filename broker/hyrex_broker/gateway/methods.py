"""The RPCs that a gateway asks of its cells."""

from dataclasses import dataclass
from typing import Any, Final

import grpc.aio
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from hyrex.v1 import (
    admin_service_pb2,
    queue_service_pb2,
    schedule_service_pb2,
    task_service_pb2,
    workflow_service_pb2,
)

_SERVICES: Final = {
    "TaskService": task_service_pb2,
    "AdminService": admin_service_pb2,
    "QueueService": queue_service_pb2,
    "ScheduleService": schedule_service_pb2,
    "WorkflowService": workflow_service_pb2,
}


_ONCE: Final = frozenset({"RetryTasks", "TriggerSchedule", "PurgeQueue"})
"""Whose second answer would not say what was done."""


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC: its path, and how its messages are written and read."""

    path: str
    streams: bool
    repeats: bool
    """It does no harm, and says the same, if it is asked again."""
    encode: Any
    decode: Any

    def on(self, channel: grpc.aio.Channel) -> Any:
        """What calls it on a channel."""
        make = channel.unary_stream if self.streams else channel.unary_unary
        return make(self.path, request_serializer=self.encode, response_deserializer=self.decode)


def method(service: str, name: str) -> Method:
    """An RPC of hyrex.v1 by its names."""
    described: MethodDescriptor = (
        _SERVICES[service].DESCRIPTOR.services_by_name[service].methods_by_name[name]
    )
    return Method(
        f"/{described.containing_service.full_name}/{name}",
        described.server_streaming,
        name not in _ONCE,
        GetMessageClass(described.input_type).SerializeToString,
        GetMessageClass(described.output_type).FromString,
    )
