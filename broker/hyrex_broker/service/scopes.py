"""The scope that each RPC needs. One that is missing here is served to nobody who needs a token.

The scope is checked before anything of a call is received; whether it is for the queues that the call
concerns, its handler checks.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from hyrex_broker.domain.rights import Scope

_OF_SERVICES: Final[Mapping[str, Mapping[str, Scope]]] = {
    "TaskService": {
        "SubmitTasks": Scope.SUBMIT,
        "StreamSubmit": Scope.SUBMIT,
        "CancelTasks": Scope.SUBMIT,
        "RetryTasks": Scope.SUBMIT,
        "GetTask": Scope.READ,
        "ListTasks": Scope.READ,
        "CountTasks": Scope.READ,
        "WatchTasks": Scope.READ,
    },
    "WorkerService": {
        "Work": Scope.WORK,
        "EndSession": Scope.WORK,
    },
    "QueueService": {
        "ListQueues": Scope.READ,
        "GetQueue": Scope.READ,
        "UpdateQueue": Scope.ADMIN,
        "PurgeQueue": Scope.ADMIN,
        "DeleteQueue": Scope.ADMIN,
    },
    "AdminService": {
        "ListWorkers": Scope.READ,
        "ListBrokers": Scope.READ,
        "WatchCluster": Scope.READ,
        "GetStats": Scope.READ,
        "Why": Scope.READ,
        "GetBulkOperation": Scope.READ,
        "ListBulkOperations": Scope.READ,
        "StartBulkOperation": Scope.ADMIN,
        "StopBulkOperation": Scope.ADMIN,
        "DrainWorker": Scope.ADMIN,
        "DrainBroker": Scope.ADMIN,
        "CreateToken": Scope.ADMIN,
        "ListTokens": Scope.ADMIN,
        "RevokeToken": Scope.ADMIN,
        "ListAudit": Scope.ADMIN,
    },
}

SCOPES: Final[Mapping[str, Scope]] = MappingProxyType(
    {
        f"/hyrex.v1.{service}/{method}": scope
        for service, methods in _OF_SERVICES.items()
        for method, scope in methods.items()
    }
)
