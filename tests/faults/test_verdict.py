"""What a storm's verdict counts, and what it excuses."""

from tests.chaos.record import Disturbance, Execution, Record
from tests.chaos.verdict import LOST, Stored, judge

LEASE_S = 5.0


def narrow(task: str, began: float, ended: float, worker: str = "worker-1", run: int = 0) -> Execution:
    """An execution under a limit of two."""
    return Execution(task, "narrow", run, 1, worker, began, ended, "completed")


def record(*executions: Execution, disturbances: tuple[Disturbance, ...] = ()) -> Record:
    made = Record(disturbances=list(disturbances))
    for each in executions:
        made.executions[each.task].append(each)
    return made


def test_three_at_once_are_over_a_limit_of_two() -> None:
    crowd = record(narrow("a", 0, 4), narrow("b", 1, 4), narrow("c", 2, 4))
    assert judge(crowd, {}, LEASE_S).over_limit == 1


def test_an_execution_counts_until_its_worker_is_stopped_for_longer_than_its_lease() -> None:
    frozen = narrow("a", 0, 9, "worker-0")
    others = (narrow("b", 6, 8), narrow("c", 7, 8))
    stop = Disturbance("worker_stop", "worker-0", 0.1, 8.9)
    assert judge(record(frozen, *others, disturbances=(stop,)), {}, LEASE_S).over_limit == 0
    moment = Disturbance("worker_stop", "worker-0", 6.5, 7.5)
    assert judge(record(frozen, *others, disturbances=(moment,)), {}, LEASE_S).over_limit == 1


def repeated(*disturbances: Disturbance) -> int:
    cut_short = Execution("a", "long", 0, 1, "worker-0", 10.0)
    again = Execution("a", "long", 1, 2, "worker-0", 14.0, 15.0, "completed")
    found = judge(record(cut_short, again, disturbances=disturbances), {}, LEASE_S)
    return found.executed_again_without_loss


def test_a_repetition_needs_an_explanation() -> None:
    assert repeated() == 1
    assert repeated(Disturbance("broker_stop", "broker-0", 8.0, 12.0)) == 1
    assert repeated(Disturbance("postgres_restart", "postgres", 10.5, 10.7)) == 1
    assert repeated(Disturbance("postgres_kill", "postgres", 10.5, 13.5)) == 0


def test_a_stopped_broker_and_then_no_database_last_together() -> None:
    stop = Disturbance("broker_stop", "broker-0", 7.5, 12.0)
    assert repeated(stop, Disturbance("postgres_kill", "postgres", 10.1, 11.8)) == 0
    assert repeated(stop, Disturbance("postgres_kill", "postgres", 10.1, 10.2)) == 1
    assert repeated(Disturbance("broker_stop", "broker-0", 7.5, 9.9), stop) == 1


def ended_as_lost(times: int, *disturbances: Disturbance) -> tuple[int, int]:
    """How often a task is held for lost, and for given up, that was lost so many times."""
    runs = [Execution("a", "long", run, 1, f"worker-{run}", 10.0 * run) for run in range(times)]
    made = record(*runs, disturbances=disturbances)
    made.acknowledged["a"].add("long")
    known = Stored(live=False, runs=[(run, LOST, run == times - 1) for run in range(times)])
    found = judge(made, {"a": known}, LEASE_S)
    return found.lost, found.given_up


def test_a_task_is_given_up_only_after_more_losses_than_are_redelivered() -> None:
    kills = [Disturbance("worker_kill", f"worker-{run}", 10.0 * run + 1, 10.0 * run + 1) for run in range(7)]
    assert ended_as_lost(7, *kills) == (0, 1)
    assert ended_as_lost(7, *kills[:6]) == (1, 0)
    assert ended_as_lost(3, *kills) == (1, 0)
