"""The worker's log has one line for each run that failed, timed out or was lost."""

import asyncio
import os
import signal
import sys

from tests.integration.worker.conftest import ROOT, Bench, Worker
from tests.support.process import TIED
from tests.support.scripted_broker import assignment


def lines(worker: Worker, task_id: str) -> list[str]:
    """Those that name a task's id."""
    return [line for line in worker.output if task_id in line]


async def test_failed_timed_out_and_lost_runs_are_logged_once(bench: Bench) -> None:
    worker = await bench.ready()
    failed = assignment("fail", {"text": "no\nluck\x1b[31m"}, attempt_number=1, max_retries=3)
    slow = assignment("spin", timeout_s=0.3)
    refused = assignment("add", {"a": "secret", "b": 1})
    well = assignment("add", {"a": 1, "b": 1})
    lost = assignment("die", {"how": "exit"})
    for run in (failed, slow, refused, well, lost):
        await bench.broker.assign(run)
        await bench.broker.outcome(run)
    await worker.printed(f"{lost.task_id}, attempt 1 of 1, was lost: child exited with status 9")
    (line,) = lines(worker, failed.task_id)
    assert f"WARNING hyrex.run: task fail {failed.task_id}, attempt 2 of 4, failed: ValueError: no" in line
    assert "no\\nluck\\x1b[31m (at " in line
    assert "bench_app.py:" in line
    assert line.endswith(" in fail)")
    (line,) = lines(worker, slow.task_id)
    assert "attempt 1 of 1, timed out: exceeded its timeout of 0.3 s (at " in line
    (line,) = lines(worker, refused.task_id)
    assert "failed: ArgumentInvalid" in line
    assert "secret" not in "".join(worker.output)
    assert lines(worker, well.task_id) == []
    death, _ = lines(worker, lost.task_id)
    assert f"ended with status 9; it was running die {lost.task_id}" in death
    assert not any("Traceback" in line for line in worker.output)


async def test_traceback_is_logged_where_debug_is_wanted(bench: Bench) -> None:
    worker = await bench.start(env={"HYREX_LOG_LEVEL": "debug"})
    await worker.printed("worker ready")
    run = assignment("fail", {"text": "no luck"})
    await bench.broker.assign(run)
    await bench.broker.outcome(run)
    await worker.printed("Traceback (most recent call last)")
    await worker.printed('bench_app.py", line')


async def test_level_that_there_is_not_is_told_once_however_many_processes_there_are(bench: Bench) -> None:
    worker = await bench.start("-p", "2", env={"HYREX_LOG_LEVEL": "verbose"})
    await worker.printed("worker ready")
    runs = [assignment("add", {"a": n, "b": 1}) for n in range(2)]
    for run in runs:
        await bench.broker.assign(run)
    for run in runs:
        await bench.broker.outcome(run)
    said = [line for line in worker.output if "HYREX_LOG_LEVEL is 'verbose'; use one of debug" in line]
    assert len(said) == 1, worker.output


async def test_log_that_nobody_reads_stops_nothing(bench: Bench) -> None:
    unread, written = os.pipe()  # holds 64 KiB
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(TIED), str(os.getpid()), sys.executable),
        *("-m", "hyrex.worker", "tests.integration.worker.bench_app:app"),
        *("--broker-url", bench.broker.url, "-p", "1", "--drain-timeout", "1", "--grace", "1"),
        cwd=ROOT,
        env={**os.environ, "BENCH_JOURNAL": str(bench.journal_path), "PYTHONPATH": str(ROOT)},
        stderr=written,
    )
    os.close(written)
    try:
        await bench.broker.until(lambda: bench.broker.capacity.get("sync", 0) > 0)
        runs = [assignment("fail", {"text": "x" * 300}) for _ in range(300)]
        for run in runs:
            await bench.broker.assign(run)
            assert (await bench.broker.outcome(run)).HasField("failed")
        assert len(bench.broker.hellos) == 1
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0
    finally:
        if process.returncode is None:
            process.kill()
        os.close(unread)
        await process.wait()
