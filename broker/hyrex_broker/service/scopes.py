"""The scope that each RPC needs, or some of which one will do. One that is missing here is served to nobody
who needs a token.

The scope is checked before anything of a call is received; whether it is for the queues that the call
concerns, its handler checks.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from hyrex_broker.domain.rights import Scope

_SUBMIT, _WORK, _READ, _COMPLETE, _ADMIN = (
    frozenset({scope}) for scope in (Scope.SUBMIT, Scope.WORK, Scope.READ, Scope.COMPLETE, Scope.ADMIN)
)
_OF_SERVICES: Final[Mapping[str, Mapping[str, frozenset[Scope]]]] = {
    "TaskService": {
        "SubmitTasks": _SUBMIT,
        "StreamSubmit": _SUBMIT,
        "CancelTasks": _SUBMIT,
        "RetryTasks": _SUBMIT,
        "ReplayTask": _SUBMIT,
        "DismissTasks": _SUBMIT,
        "CompleteTasks": _COMPLETE,
        "GetTask": _READ,
        "ListTasks": _READ,
        "CountTasks": _READ,
        "WatchTasks": _READ,
    },
    "WorkerService": {
        "Work": _WORK,
        "EndSession": _WORK,
    },
    "QueueService": {
        "ListQueues": _READ,
        "GetQueue": _READ,
        "UpdateQueue": _ADMIN,
        "PurgeQueue": _ADMIN,
        "DeleteQueue": _ADMIN,
    },
    "ScheduleService": {
        "PutSchedule": _SUBMIT,
        "PauseSchedule": _SUBMIT,
        "TriggerSchedule": _SUBMIT,
        "BackfillSchedule": _SUBMIT,
        "DeleteSchedule": _SUBMIT,
        "GetSchedule": _READ,
        "ListSchedules": _READ,
    },
    "WorkflowService": {
        "SubmitWorkflow": _SUBMIT,
        "GetWorkflow": _READ,
    },
    "AdminService": {
        "ListWorkers": _READ,
        "ListBrokers": _READ,
        "WatchCluster": _READ,
        "GetStats": _READ,
        "Why": _READ,
        "GetBulkOperation": _READ,
        "ListBulkOperations": _READ,
        "ListRefusedRows": _READ,
        "RetryRefusedRows": _SUBMIT,
        "DismissRefusedRows": _SUBMIT,
        "StartBulkOperation": _ADMIN,
        "StopBulkOperation": _ADMIN,
        "DrainWorker": _ADMIN,
        "DrainBroker": _ADMIN,
        "GetCaller": frozenset(Scope),
        "CreateToken": _ADMIN,
        "ListTokens": _ADMIN,
        "RevokeToken": _ADMIN,
        "ListAudit": _ADMIN,
    },
}

SCOPES: Final[Mapping[str, frozenset[Scope]]] = MappingProxyType(
    {
        f"/hyrex.v1.{service}/{method}": scope
        for service, methods in _OF_SERVICES.items()
        for method, scope in methods.items()
    }
)
