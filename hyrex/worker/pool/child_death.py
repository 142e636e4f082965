"""How the runs of a child ended when the child died. Its ledger says exactly which of them had started.

A run that had not started can run in another child. One that had started is lost, timed out or cancelled,
according to why the child died. If it was the only one running, it may have been the cause (`Lost.alone`).
"""

import time
from collections.abc import Sequence
from typing import Final

from hyrex.worker.pool.child_process import ChildProcess
from hyrex.worker.pool.held_block import Held
from hyrex.worker.pool.held_lease import HeldLease
from hyrex.worker.shared.child_options import UNTRUSTED
from hyrex.worker.shared.outcome import Cancelled, Ending, ErrorInfo, Lost, Outcome, StopCause, TimedOut
from hyrex.worker.shared.platform import exit_reason

_MOST_NAMED: Final = 5


def take_runs_of_dead(child: ChildProcess, status: int) -> tuple[list[tuple[HeldLease, Ending]], list[Held]]:
    """Take all runs from a dead child. Return those that had started, with how they ended, and the others."""
    running = {run.token: run.started_ns for run in child.ledger.running()}
    started, others = child.parted()
    leases = [held for token in started if (held := child.lease(token)) is not None]
    unstarted = child.take_out(others)
    child.given = {}
    return [(held, _ending(held, child, status, running)) for held in leases], unstarted


def _ending(held: HeldLease, child: ChildProcess, status: int, running: dict[int, int]) -> Ending:
    token = held.run.token
    begun_ns = running.get(token)
    elapsed = None if begun_ns is None else time.monotonic_ns() - begun_ns
    only_one = begun_ns is not None and len(running) == 1
    return Ending(token, _outcome(held, child, status, only_one), elapsed)


def _outcome(held: HeldLease, child: ChildProcess, status: int, only_one: bool) -> Outcome:
    blamed = child.killed_for
    if blamed is None:
        reason = "leases were not trusted" if status == UNTRUSTED else exit_reason(status)
        return Lost(f"child exited with {reason}", alone=only_one and status != UNTRUSTED)
    if blamed is not held:
        return Lost(f"child stopped for task {blamed.run.name} {blamed.run.task_id}", alone=False)
    if held.stop is StopCause.TIMEOUT:
        text = f"exceeded its timeout of {held.run.timeout_ns / 1e9:g} s and did not stop when asked"
        return TimedOut(ErrorInfo("TaskTimeout", text))
    if held.stop is StopCause.CANCEL:
        return Cancelled(held.stop_reason)
    return Lost(f"did not stop when asked ({held.stop_reason}); its child was killed", alone=False)


def what_ran(started: Sequence[tuple[HeldLease, Ending]]) -> str:
    """Names the runs that a dead child was executing, not all of them if they are many."""
    shown = [f"{held.run.name} {held.run.task_id}" for held, _ in started[:_MOST_NAMED]]
    if len(started) > _MOST_NAMED:
        shown.append(f"{len(started) - _MOST_NAMED} more")
    return f"; it was running {', '.join(shown)}" if shown else ""
