"""The kinds of findings of `hyrex verify`, with what each means and what to do."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class DiscrepancyKind:
    """What a finding means, its remedy, and whether `--repair` can put it right."""

    meaning: str
    remedy: str
    repairable: bool = False


_REPAIR: Final = "`hyrex verify --repair`"

KINDS: Final = MappingProxyType(
    {
        "two_ends": DiscrepancyKind(
            "tasks with two final runs of which nobody reopened the first",
            "two recordings of one end: look at both with `hyrex task get`, and report it as a defect",
        ),
        "live_after_end": DiscrepancyKind(
            "tasks that have ended and still wait or run",
            f"{_REPAIR} removes what waits, and the end stands; `hyrex task cancel` ends what runs",
            repairable=True,
        ),
        "two_places": DiscrepancyKind(
            "tasks that are live in two places",
            f"{_REPAIR} keeps the lease, else the ready row",
            repairable=True,
        ),
        "stranded": DiscrepancyKind(
            "tasks without an end that no live table has: nobody would ever run them",
            f"{_REPAIR} makes them ready; they may have run before",
            repairable=True,
        ),
        "run_taken": DiscrepancyKind(
            "live tasks whose next run has a number that was recorded already: its report would be refused",
            "cancel them (`hyrex task cancel`), and send the tasks anew",
        ),
        "no_lane": DiscrepancyKind(
            "tasks whose lane is not stored: nobody knows their queue and name",
            "a failover lost what these lanes stand for; insert the rows into table lane",
        ),
        "key_lost": DiscrepancyKind(
            "tasks whose idempotency key is not stored: a repetition would be a second task",
            "a failover or a restore lost the key; insert it into table idempotency, or tell the senders",
        ),
        "live_without_task": DiscrepancyKind(
            "ready, delayed, leased or blocked rows whose task is not stored",
            "the table of their day was removed by hand or not restored: restore it, or delete these rows",
        ),
        "orphan_lease": DiscrepancyKind(
            "leases whose session is not stored or has ended: nobody would ever report or sweep them",
            f"{_REPAIR} ends these runs as lost, so that their tasks run again",
            repairable=True,
        ),
        "run_without_task": DiscrepancyKind(
            "runs whose task is not stored",
            "the table of their day was removed by hand or not restored: restore it, or delete these runs",
        ),
        "reopened_nothing": DiscrepancyKind(
            "retries of runs that are not stored as final",
            f"{_REPAIR} removes them: they would keep a later end from being retried",
            repairable=True,
        ),
        "dismissed_nothing": DiscrepancyKind(
            "dismissals of runs that are not stored as bad ends",
            f"{_REPAIR} removes them: they would hide a later dead letter",
            repairable=True,
        ),
        "key_of_nothing": DiscrepancyKind(
            "idempotency keys whose task is not stored",
            f"{_REPAIR} frees them",
            repairable=True,
        ),
        "unswept": DiscrepancyKind(
            "sessions whose time is over and that no broker has ended, though one lives",
            "look at the brokers' logs for the sweeper, and restart them one after the other",
        ),
        "overdue": DiscrepancyKind(
            "leases past their deadline that no broker has ended, though one lives",
            "look at the log of the broker of their session, and restart it",
        ),
        "not_promoted": DiscrepancyKind(
            "delayed tasks whose time came long ago, though a broker lives",
            "look at the brokers' logs for the promoter, and restart them one after the other",
        ),
        "passed_over": DiscrepancyKind(
            "ready tasks that assigns pass over: they are below a low-water mark, and later ones run",
            f"{_REPAIR} makes them ready anew",
            repairable=True,
        ),
        "bulk_left": DiscrepancyKind(
            "bulk operations that nobody goes on with, though a broker lives",
            "look at the brokers' logs, and stop the operation with `hyrex bulk stop`",
        ),
        "slot_overdue": DiscrepancyKind(
            "schedules whose slot passed long ago without a task, though a broker lives",
            "look at the brokers' logs for the schedule: its queue is full, or its task is refused",
        ),
        "outbox_refused": DiscrepancyKind(
            "rows of the outbox of which no task could be made: they wait, and are tried every minute",
            "`hyrex outbox list` says why; mend that and `hyrex outbox retry` them, or"
            " `hyrex outbox dismiss` them",
        ),
        "slot_lost": DiscrepancyKind(
            "slots of schedules, stored lately, whose task is not stored",
            "a failover lost the task: send it anew, or trigger its schedule with `hyrex schedule trigger`",
        ),
        "over_limit": DiscrepancyKind(
            "limits under which more tasks run than may, assigned after the limit was set",
            "report it as a defect; the tasks end by themselves, or cancel some",
        ),
        "over_rate": DiscrepancyKind(
            "rates of which more tasks run than may have begun since they were set",
            "report it as a defect; the tasks end by themselves, or cancel some",
        ),
        "seat_of_ended": DiscrepancyKind(
            "seats of concurrency keys whose task ended long ago, though a broker lives",
            f"they count for nothing; {_REPAIR} removes them, and lets go on what waits",
            repairable=True,
        ),
        "stuck_blocked": DiscrepancyKind(
            "blocked tasks whose concurrency key has a free seat, though a broker lives",
            f"{_REPAIR} lets them go on; look at the brokers' logs",
            repairable=True,
        ),
        "stuck_node": DiscrepancyKind(
            "workflows that are blocked though nothing for which they wait lives, though a broker does",
            f"{_REPAIR} lets them go on, or ends them; look at the brokers' logs",
            repairable=True,
        ),
        "node_without_root": DiscrepancyKind(
            "nodes of workflows that live though their workflow has ended",
            "report it as a defect; they end by themselves, or cancel them",
        ),
        "over_key": DiscrepancyKind(
            "concurrency keys of which more tasks run than may",
            "report it as a defect; the tasks end by themselves, or cancel some",
        ),
        "limit_unheeded": DiscrepancyKind(
            "lanes that do not know of their limit, or of its end",
            f"{_REPAIR} tells them",
            repairable=True,
        ),
        "day_missing": DiscrepancyKind(
            "partitions that the next days need and that are not there: submits would be refused",
            f"start a broker, run `hyrex migrate`, or {_REPAIR}",
            repairable=True,
        ),
        "day_unknown": DiscrepancyKind(
            "tables of days that belong to nothing: detached, half detached, or under a foreign name",
            "a broker goes on with a removal within half an hour; a table that is not Hyrex's: move it",
        ),
    }
)
