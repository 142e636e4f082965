"""How a worker leaves, and what it says when it cannot begin."""

import signal

from hyrex.v1 import worker_service_pb2 as wire
from tests.integration.worker.conftest import Bench
from tests.support.scripted_broker import assignment
from tests.support.trees import signal_all


async def test_first_sigterm_finishes_what_runs_and_releases_what_waits(bench: Bench) -> None:
    worker = await bench.fetching("--prefetch", "5")
    running, waiting = assignment("sleep", {"seconds": 1}), assignment("add", {"a": 1, "b": 1})
    await bench.broker.assign(running, waiting)
    await bench.noted("sleep")
    worker.stop()
    released = (await bench.broker.outcome(waiting)).released
    assert not released.started
    assert (await bench.broker.outcome(running)).HasField("completed")
    assert await worker.exit_status() == 0
    kinds = [frame.WhichOneof("frame") for frame in bench.broker.frames]
    assert "drain" in kinds
    assert kinds[-1] == "goodbye"
    assert bench.broker.capacity["sync"] == 0
    assert not bench.broker.ended


async def test_drain_timeout_releases_what_still_runs(bench: Bench) -> None:
    worker = await bench.ready("--drain-timeout", "0.5")
    run = assignment("spin")
    await bench.broker.assign(run)
    await bench.noted("spin")
    worker.stop()
    assert (await bench.broker.outcome(run)).released.started
    assert await worker.exit_status() == 0
    assert bench.broker.goodbyes == 1


async def test_second_sigterm_releases_at_once(bench: Bench) -> None:
    worker = await bench.ready()
    run = assignment("spin")
    await bench.broker.assign(run)
    await bench.noted("spin")
    worker.stop()
    await bench.broker.until(lambda: any(frame.HasField("drain") for frame in bench.broker.frames))
    worker.stop()
    assert (await bench.broker.outcome(run)).released.started
    assert await worker.exit_status() == 0


async def test_run_that_does_not_stop_in_a_drain_is_lost_not_released(bench: Bench) -> None:
    worker = await bench.ready("--drain-timeout", "0.2")
    run = assignment("stubborn")
    await bench.broker.assign(run)
    await bench.noted("stubborn")
    worker.stop()
    assert not (await bench.broker.outcome(run)).lost.alone
    assert await worker.exit_status() == 0


async def test_run_of_a_child_that_does_not_answer_is_given_back_before_goodbye(bench: Bench) -> None:
    bench.broker.lease_s = 3.0
    worker = await bench.ready("--drain-timeout", "0.2")
    signal_all(worker.children(), signal.SIGSTOP)
    run = assignment("add", {"a": 1, "b": 1})
    await bench.broker.assign(run)
    await bench.broker.until(
        lambda: any(run.token in frame.heartbeat.held_tokens for frame in bench.broker.frames)
    )
    worker.stop()
    assert not (await bench.broker.outcome(run)).released.started
    assert await worker.exit_status() == 0
    assert bench.broker.goodbyes == 1


async def test_children_that_are_still_starting_leave_like_the_others(bench: Bench) -> None:
    worker = await bench.start("-p", "4", "--grace", "120")  # longer than the test waits
    await worker.printed("worker ready")
    worker.stop()
    assert await worker.exit_status() == 0
    entered = [line.split()[1] for line in bench.journal() if line.startswith("enter")]
    assert sorted(entered) == sorted(line.split()[1] for line in bench.journal() if line.startswith("leave"))


async def test_cancel_works_while_draining(bench: Bench) -> None:
    worker = await bench.ready()
    run = assignment("spin")
    await bench.broker.assign(run)
    await bench.noted("spin")
    worker.stop()
    await bench.broker.until(lambda: any(frame.HasField("drain") for frame in bench.broker.frames))
    await bench.broker.cancel(run)
    assert (await bench.broker.outcome(run)).HasField("cancelled")
    assert await worker.exit_status() == 0


async def test_worker_that_an_operator_sends_away_finishes_and_leaves(bench: Bench) -> None:
    worker = await bench.ready()
    run = assignment("sleep", {"seconds": 1})
    await bench.broker.assign(run)
    await bench.noted("sleep")
    await bench.broker.say(wire.WorkResponse(leave=wire.Leave(reason="drain it")))
    assert (await bench.broker.outcome(run)).HasField("completed")
    assert await worker.exit_status() == 0
    assert bench.broker.goodbyes == 1


async def test_worker_whose_launcher_is_killed_gives_everything_back(bench: Bench) -> None:
    worker = await bench.ready()
    run = assignment("sleep", {"seconds": 30})
    await bench.broker.assign(run)
    await bench.noted("sleep")
    worker.process.send_signal(signal.SIGKILL)
    assert (await bench.broker.outcome(run)).released.started
    await bench.broker.until(lambda: bench.broker.goodbyes)


async def test_target_that_cannot_be_imported_ends_with_status_3_and_the_traceback(bench: Bench) -> None:
    worker = await bench.start(target="tests.integration.worker.broken_app:app")
    assert await worker.exit_status() == 3
    await worker.printed("ZeroDivisionError")
    first = worker.output.index(await worker.printed("Traceback (most recent call last):")) + 1
    assert "broken_app.py" in worker.output[first], worker.output


async def test_wrong_target_lists_what_the_module_contains(bench: Bench) -> None:
    worker = await bench.start(target="tests.integration.worker.bench_app:nothing")
    assert await worker.exit_status() == 3
    line = await worker.printed("has no 'nothing'")
    assert "bench_app:app (HyrexApp)" in line
    assert "bench_app:hy (HyrexRegistry)" in line


async def test_target_of_another_kind_says_what_it_is(bench: Bench) -> None:
    worker = await bench.start(target="tests.integration.worker.bench_app:not_an_app")
    assert await worker.exit_status() == 3
    await worker.printed("is a int, not a HyrexApp or HyrexRegistry")


async def test_missing_module_is_named(bench: Bench) -> None:
    worker = await bench.start(target="no_such_module")
    assert await worker.exit_status() == 3
    await worker.printed("there is no module 'no_such_module'")
