"""What a worker may do whose token is for some queues only.

It serves only queues that its token is for. What its code declares of others is left out: a program may
declare queues that other workers serve, under other tokens.
"""

import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace

from hyrex_broker.domain.rates import DeclaredLimit
from hyrex_broker.domain.rights import Caller, Scope
from hyrex_broker.engine.sessions.session import Introduction

log = logging.getLogger(__name__)


TasksElsewhere = Callable[[Collection[str], Collection[str]], Awaitable[Collection[str]]]
"""Takes names of tasks, and patterns. Returns the names that some queue has which no pattern matches."""


async def within_rights(
    introduction: Introduction, caller: Caller, tasks_elsewhere: TasksElsewhere
) -> Introduction:
    """The same with what the caller may declare.

    Raises RightMissing for a pattern that goes beyond the caller's, or a schedule for whose queue it may not
    submit; StorageUnavailable.
    """
    for pattern in introduction.info.queue_patterns:
        caller.require(Scope.WORK, pattern)
    for schedule in introduction.schedules:  # its effect lands in that queue (rule 39)
        caller.require(Scope.SUBMIT, schedule.queue)
    introduction = replace(introduction, token=caller.key or None)
    if caller.unlimited:
        return introduction
    definitions = [each for each in introduction.definitions if caller.covers(each.queue)]
    limited = {limit.name for limit in introduction.limits if limit.binds and limit.scope == "task"}
    declared = limited & {each.name for each in definitions}
    own = declared - set(await tasks_elsewhere(declared, caller.queue_patterns))

    def may_limit(limit: DeclaredLimit) -> bool:
        """A limit of a task counts its runs in every queue."""
        if limit.scope == "queue":
            return caller.covers(limit.name)
        return limit.name in own

    limits = [limit for limit in introduction.limits if may_limit(limit)]
    left_out = [
        f"{limit.scope} {limit.name}" for limit in introduction.limits if limit.binds and limit not in limits
    ]
    if left_out:
        log.warning(
            "limits of a worker's code were left out: its token is not for those queues",
            extra={"worker": introduction.info.worker_name, "token": caller.name, "limits": left_out[:20]},
        )
    return replace(
        introduction,
        info=replace(introduction.info, limits=tuple(filter(may_limit, introduction.info.limits))),
        definitions=definitions,
        limits=limits,
        queues=[queue for queue in introduction.queues if caller.covers(queue)],
        covers=caller.covers,
    )
