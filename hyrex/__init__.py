"""The Hyrex SDK: tasks are functions, sent from anywhere, run by workers.

Names are imported when they are first used, so importing the package costs nothing and touches
neither network, signals nor environment.
"""

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from hyrex import errors
    from hyrex.app import HyrexApp
    from hyrex.by_id import (
        complete,
        complete_async,
        dismiss,
        dismiss_async,
        get_task,
        get_task_async,
        replay,
        replay_async,
    )
    from hyrex.call import TaskCall
    from hyrex.codec import Codec, PayloadInfo
    from hyrex.context import (
        HyrexContext,
        HyrexWorkflowContext,
        get_hyrex_context,
        get_hyrex_workflow_context,
    )
    from hyrex.errors import (
        ArgumentInvalid,
        BrokerUnavailable,
        CallRejected,
        DefinitionError,
        DuplicateTask,
        HyrexError,
        KeyBusy,
        NonRetryable,
        NotInTransaction,
        NotWaiting,
        OutboxError,
        OutboxUnavailable,
        PayloadTooLarge,
        PayloadUnavailable,
        PayloadUnreadable,
        QueueFull,
        ResultInvalid,
        ResultNotSerializable,
        ResultUnavailable,
        RetryAfter,
        RuntimeUnsupported,
        SendError,
        SendManyFailed,
        SendRejected,
        SubmitUnknown,
        TaskCancelled,
        TaskFailed,
        TaskLost,
        TaskNotFound,
        TaskTimedOut,
        TaskTimeout,
        TaskWasCancelled,
        TokenInvalid,
        UnknownConnection,
        WorkflowInvalid,
        WouldDeadlock,
    )
    from hyrex.gather import wait_all, wait_all_async
    from hyrex.handle import TaskHandle
    from hyrex.middleware import Middleware, RunInfo, SendInfo
    from hyrex.options import TaskConfig
    from hyrex.progress import RunProgress
    from hyrex.queue import HyrexQueue
    from hyrex.registry import HyrexRegistry
    from hyrex.runs import TaskRun
    from hyrex.sending import send_many, send_many_async
    from hyrex.status import TaskStatus
    from hyrex.task import HyrexTask
    from hyrex.workflows.handle import WorkflowHandle
    from hyrex.workflows.node import WorkflowNode
    from hyrex.workflows.workflow import HyrexWorkflow

__all__ = [
    "ArgumentInvalid",
    "BrokerUnavailable",
    "CallRejected",
    "Codec",
    "DefinitionError",
    "DuplicateTask",
    "HyrexApp",
    "HyrexContext",
    "HyrexError",
    "HyrexQueue",
    "HyrexRegistry",
    "HyrexTask",
    "HyrexWorkflow",
    "HyrexWorkflowContext",
    "KeyBusy",
    "Middleware",
    "NonRetryable",
    "NotInTransaction",
    "NotWaiting",
    "OutboxError",
    "OutboxUnavailable",
    "PayloadInfo",
    "PayloadTooLarge",
    "PayloadUnavailable",
    "PayloadUnreadable",
    "QueueFull",
    "ResultInvalid",
    "ResultNotSerializable",
    "ResultUnavailable",
    "RetryAfter",
    "RunInfo",
    "RunProgress",
    "RuntimeUnsupported",
    "SendError",
    "SendInfo",
    "SendManyFailed",
    "SendRejected",
    "SubmitUnknown",
    "TaskCall",
    "TaskCancelled",
    "TaskConfig",
    "TaskFailed",
    "TaskHandle",
    "TaskLost",
    "TaskNotFound",
    "TaskRun",
    "TaskStatus",
    "TaskTimedOut",
    "TaskTimeout",
    "TaskWasCancelled",
    "TokenInvalid",
    "UnknownConnection",
    "WorkflowHandle",
    "WorkflowInvalid",
    "WorkflowNode",
    "WouldDeadlock",
    "complete",
    "complete_async",
    "dismiss",
    "dismiss_async",
    "errors",
    "get_hyrex_context",
    "get_hyrex_workflow_context",
    "get_task",
    "get_task_async",
    "replay",
    "replay_async",
    "send_many",
    "send_many_async",
    "wait_all",
    "wait_all_async",
]

_HOMES: Final = {
    "Codec": "codec",
    "HyrexApp": "app",
    "HyrexContext": "context",
    "HyrexQueue": "queue",
    "HyrexRegistry": "registry",
    "HyrexTask": "task",
    "HyrexWorkflow": "workflows.workflow",
    "HyrexWorkflowContext": "context",
    "Middleware": "middleware",
    "PayloadInfo": "codec",
    "RunInfo": "middleware",
    "SendInfo": "middleware",
    "TaskCall": "call",
    "TaskConfig": "options",
    "TaskHandle": "handle",
    "RunProgress": "progress",
    "TaskRun": "runs",
    "TaskStatus": "status",
    "WorkflowHandle": "workflows.handle",
    "WorkflowNode": "workflows.node",
    "complete": "by_id",
    "complete_async": "by_id",
    "dismiss": "by_id",
    "dismiss_async": "by_id",
    "get_hyrex_context": "context",
    "get_hyrex_workflow_context": "context",
    "get_task": "by_id",
    "get_task_async": "by_id",
    "replay": "by_id",
    "replay_async": "by_id",
    "send_many": "sending",
    "send_many_async": "sending",
    "wait_all": "gather",
    "wait_all_async": "gather",
}


if not TYPE_CHECKING:  # else a misspelt name would be one of any type

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        if name == "errors":
            return import_module("hyrex.errors")
        value = getattr(import_module(f"hyrex.{_HOMES.get(name, 'errors')}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
