"""What in a cluster needs somebody: each with a sentence, and the command that mends it or begins to."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from hyrex.runtime.shell import shell_word
from hyrex.v1 import admin_service_pb2 as pb
from hyrex_broker.domain.views import QueueView
from hyrex_broker.service.times import timestamp
from hyrex_broker.storage.cluster import ClusterStore, FullLimit, RefusedInQueue, StrangeTask

_MOST_NAMED: Final = 5
"""Names of tasks in one sentence."""


async def needs_of(
    store: ClusterStore,
    queues: Sequence[QueueView],
    oldest: Mapping[str, datetime],
    most: int,
    *,
    of_these: bool,
    beside: Sequence[RefusedInQueue] = (),
) -> list[pb.Need]:
    """Up to `most` needs, by kind, then those that wait longest first; `of_these`: of these queues alone;
    `beside`: refused rows of the database beside. Raises StorageUnavailable."""
    served = [queue.name for queue in queues if queue.workers]
    names = [queue.name for queue in queues] if of_these else None
    needs = [
        *_of_queues(queues, oldest),
        *_of_strange(await store.strange_tasks(served, most)),
        *map(_full, await store.full_limits(names, most)),
        *map(_refused, await store.refused_rows(names, most)),
        *[_refused(rows) for rows in beside if names is None or rows.queue in names],
    ]
    return sorted(needs, key=lambda need: (need.kind, need.since.seconds))[:most]


def _of_queues(queues: Sequence[QueueView], oldest: Mapping[str, datetime]) -> Iterator[pb.Need]:
    for queue in queues:
        if not queue.queued:
            continue
        since = timestamp(oldest[queue.name]) if queue.name in oldest else None
        waiting = f"{queue.queued}{'+' if queue.queued_capped else ''} tasks are ready"
        name = _argument(queue.name)
        if queue.paused:
            yield pb.Need(
                kind=pb.NEED_KIND_PAUSED_WITH_BACKLOG,
                queue=queue.name,
                sentence=f"queue {queue.name!r} is paused, and {waiting}",
                remedy=f"hyrex queue resume {name}",
                since=since,
            )
        elif not queue.workers:
            yield pb.Need(
                kind=pb.NEED_KIND_QUEUE_NOT_SERVED,
                queue=queue.name,
                sentence=f"no connected worker serves queue {queue.name!r}, and {waiting}",
                remedy=f"hyrex run-worker MODULE:APP --queue={shell_word(queue.name)}",
                since=since,
            )


def _of_strange(tasks: Sequence[StrangeTask]) -> Iterator[pb.Need]:
    """One for each queue, since one command mends it; the names that have waited longest come first."""
    by_queue: dict[str, list[StrangeTask]] = {}
    for task in sorted(tasks, key=lambda task: task.since):
        by_queue.setdefault(task.queue, []).append(task)
    for queue, found in by_queue.items():
        names = ", ".join(task.name for task in found[:_MOST_NAMED])
        more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
        ready = f"tasks of {'it' if len(found) == 1 else 'them'} are ready in queue {queue!r}"
        yield pb.Need(
            kind=pb.NEED_KIND_TASK_UNKNOWN,
            queue=queue,
            name=found[0].name if len(found) == 1 else "",
            sentence=f"no connected worker has {names}{more}, and {ready}",
            remedy=f"hyrex run-worker MODULE:APP --queue={shell_word(queue)}",
            since=timestamp(found[0].since),
        )


def _full(limit: FullLimit) -> pb.Need:
    of_queue = limit.scope == "queue"
    what = f"queue {limit.name!r}" if of_queue else f"task {limit.name}"
    return pb.Need(
        kind=pb.NEED_KIND_LIMIT_FULL,
        queue=limit.name if of_queue else "",
        name="" if of_queue else limit.name,
        sentence=f"the limit of {what} ({limit.maximum}) is reached, and tasks have waited for 5 minutes",
        remedy=f"hyrex queue limit {_argument(limit.name)} {limit.maximum * 2}"
        if of_queue
        else f"@hy.task(max_concurrency={limit.maximum * 2}) in the code of {limit.name}",
        since=timestamp(limit.since),
    )


def _refused(found: RefusedInQueue) -> pb.Need:
    where = "the outbox beside the database" if found.beside else "the outbox"
    rows = f"a row of {where} is" if found.count == 1 else f"{found.count} rows of {where} are"
    return pb.Need(
        kind=pb.NEED_KIND_ROWS_REFUSED,
        queue=found.queue,
        sentence=f"{rows} refused, and no task of queue {found.queue!r} comes of it: {found.reason}",
        remedy=f"hyrex outbox list --queue={shell_word(found.queue)}",
        since=timestamp(found.since),
    )


def _argument(name: str) -> str:
    """A name as an argument of a command in a shell, where it must not be taken for an option."""
    quoted = shell_word(name)
    return f"-- {quoted}" if name.startswith("-") else quoted
