"""Parts of workers are killed and stopped: their runs are recorded lost and run again, for no attempt."""

import signal
import sys
import time

from tests.faults import app
from tests.faults.field import PATIENCE_S, Field, ends, kill, part, stop, whole
from tests.support.eventually import eventually
from tests.support.postgres import connect
from tests.support.processes import Processes, RunningBroker
from tests.support.trees import is_gone, running, tree


def test_runs_of_a_killed_stream_process_run_again(field: Field, one_broker: RunningBroker) -> None:
    worker = field.worker(one_broker.url)
    handle = app.hold.send(1.0)
    child = field.begun(handle).pid
    part(worker, "hyrex.worker.stream.process").kill()
    field.begun(handle, times=2)
    assert is_gone(child)
    assert handle.wait(PATIENCE_S)
    assert ends(handle) == ["lost", "completed"]
    assert handle.task_runs[0].attempt_number == handle.task_runs[1].attempt_number == 0
    assert "SIGKILL" in str(handle.task_runs[0].reason)


def test_a_killed_child_costs_its_run_a_redelivery_and_the_others_nothing(
    field: Field, one_broker: RunningBroker
) -> None:
    worker = field.worker(one_broker.url, args=("-p", "2"))
    killed, other = app.hold.send(1.5), app.hold.send(1.5)
    field.begun(other)
    stream = part(worker, "hyrex.worker.stream.process").pid
    victim = field.begun(killed)
    part_of = [process for process in whole(worker) if process.pid == victim.pid]
    part_of[0].kill()
    assert killed.wait(PATIENCE_S)
    assert other.wait(PATIENCE_S)
    assert ends(killed) == ["lost", "completed"]
    assert "SIGKILL" in str(killed.task_runs[0].reason)
    assert ends(other) == ["completed"]
    assert part(worker, "hyrex.worker.stream.process").pid == stream


def test_a_poison_task_ends_as_lost_and_its_worker_lives(field: Field, one_broker: RunningBroker) -> None:
    """Redeliveries back off by 0, 1, 5, 30 s; the delays are cut short here."""
    import asyncio

    async def hurry() -> None:
        connection = await connect(field.database_url)
        await connection.execute("update delayed set run_at = now()")
        await connection.close()

    field.worker(one_broker.url)
    handle = app.poison.send()

    def is_over() -> bool:
        asyncio.run(hurry())
        handle.refresh()
        return handle.is_final

    eventually(is_over, PATIENCE_S, every_s=0.1)
    runs = ends(handle)
    assert handle.status == "lost"
    assert set(runs) == {"lost"}
    assert 6 <= len(runs) <= 7  # five redeliveries; a first loss in company is not counted
    after = app.once.send(1)
    assert after.wait(PATIENCE_S)


def test_a_silent_host_is_expired_and_its_late_report_is_stale(
    field: Field, one_broker: RunningBroker
) -> None:
    worker = field.worker(one_broker.url)
    handle = app.hold.send(8.0)  # far from its end when it is let go on
    frozen = field.received(handle)
    processes = whole(worker)
    go_on = stop(processes)
    field.worker(one_broker.url)
    field.begun(handle, times=2)
    go_on()
    # It does not trust its lease any more: the run is asked to stop, or its child is ended.
    eventually(lambda: field.executions(handle)[0].how or is_gone(frozen.pid))
    assert handle.wait(PATIENCE_S)
    assert ends(handle) == ["lost", "completed"]
    first, second = field.executions(handle)
    assert first.how != "completed"
    assert second.how == "completed"
    assert worker.running


def test_a_short_pause_costs_nothing(field: Field, lasting_broker: RunningBroker) -> None:
    worker = field.worker(lasting_broker.url)
    handle = app.hold.send(1.5)
    field.begun(handle)
    go_on = stop(whole(worker))
    time.sleep(0.8)
    go_on()
    assert handle.wait(PATIENCE_S)
    assert ends(handle) == ["completed"]


def test_a_killed_host_is_swept_by_database_time(field: Field, one_broker: RunningBroker) -> None:
    lost = field.worker(one_broker.url)
    handle = app.hold.send(1.0)
    field.received(handle)
    kill(whole(lost))
    field.worker(one_broker.url)
    assert handle.wait(PATIENCE_S)
    assert ends(handle) == ["lost", "completed"]
    assert "expired" in str(handle.task_runs[0].reason)


def test_a_worker_told_to_leave_gives_back_at_no_cost(field: Field, one_broker: RunningBroker) -> None:
    leaving = field.worker(one_broker.url, args=("-p", "1", "--drain-timeout", "0.2"))
    handle = app.hold.send(2.0)
    field.begun(handle)
    assert leaving.terminate() == 0
    field.worker(one_broker.url)
    assert handle.wait(PATIENCE_S)
    assert ends(handle) == ["released", "completed"]
    assert handle.task_runs[1].attempt_number == 0


def test_a_killed_launcher_takes_everything_with_it(field: Field, one_broker: RunningBroker) -> None:
    """Its stream process gives back what runs, says Goodbye and ends; nothing is left behind."""
    lost = field.worker(one_broker.url)
    handle = app.hold.send(1.0)
    field.received(handle)
    below = whole(lost)[1:]
    lost.kill()
    for process in below:
        eventually(lambda pid=process.pid: is_gone(pid))  # type: ignore[misc]
    field.worker(one_broker.url)
    assert handle.wait(PATIENCE_S)
    assert ends(handle) in (["lost", "completed"], ["released", "completed"])
    assert handle.task_runs[1].attempt_number == 0


def test_a_launcher_killed_before_it_heard_of_the_session_takes_everything_with_it(
    processes: Processes, one_broker: RunningBroker
) -> None:
    """What it has not read when it is killed makes the end of its line a reset."""
    command = [sys.executable, "-m", "hyrex.worker", "tests.faults.app:app", "-p", "1", "--grace", "0.5"]
    lost = processes.start("worker", *command, env={"HYREX_BROKER_URL": one_broker.url})
    eventually(lambda: running(lost.pid, "hyrex.worker.child.main"))
    lost.signal(signal.SIGSTOP)
    lost.wait_for("worker ready: ")
    below = tree(lost.pid)[1:]
    lost.kill()
    for process in below:
        eventually(lambda pid=process.pid: is_gone(pid))  # type: ignore[misc]


def test_a_stopped_stream_process_whose_launcher_is_killed_ends(
    field: Field, one_broker: RunningBroker
) -> None:
    lost = field.worker(one_broker.url)
    below = whole(lost)[1:]
    stop(below)
    lost.kill()
    for process in below:
        eventually(lambda pid=process.pid: is_gone(pid))  # type: ignore[misc]
