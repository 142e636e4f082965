"""Every page and every action by its address."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from hyrex.dashboard.pages import (
    bulk,
    failures,
    machines,
    outbox,
    overview,
    queues,
    rights,
    schedules,
    task,
    tasks,
    workflow,
    workflows,
)
from hyrex.dashboard.pages.action import Action
from hyrex.dashboard.pages.page import View
from hyrex.dashboard.pages.queue_actions import QUEUE_ACTIONS
from hyrex.dashboard.pages.task_actions import TASK_ACTIONS

SCREENS: Final[Mapping[str, View]] = MappingProxyType(
    {
        "/": overview.overview,
        "/queues": queues.all_queues,
        "/queue": queues.one_queue,
        "/tasks": tasks.task_list,
        "/task": task.one_task,
        "/workflows": workflows.workflows,
        "/workflow": workflow.workflow,
        "/failures": failures.failures,
        "/schedules": schedules.schedules,
        "/schedule": schedules.schedule,
        "/outbox": outbox.outbox,
        "/workers": machines.workers,
        "/worker": machines.worker,
        "/brokers": machines.brokers,
        "/tokens": rights.tokens,
        "/audit": rights.audit,
        "/operations": bulk.operations,
        "/operation": bulk.operation,
    }
)
ACTIONS: Final[Mapping[str, Action]] = MappingProxyType(
    {
        **QUEUE_ACTIONS,
        **TASK_ACTIONS,
        **workflow.WORKFLOW_ACTIONS,
        **bulk.BULK_ACTIONS,
        **rights.TOKEN_ACTIONS,
        **schedules.SCHEDULE_ACTIONS,
        **outbox.OUTBOX_ACTIONS,
    }
)


def is_local(address: str) -> bool:
    """True for the address of one of our pages, with its query or without."""
    return address.partition("?")[0] in SCREENS and address.isprintable() and " " not in address
