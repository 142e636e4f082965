"""SIGUSR1 prints where a broker or a worker stands, and stops nothing."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.faults import app
from tests.faults.field import PATIENCE_S, Field
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.process import ROOT, Process
from tests.support.processes import RunningBroker

PRINTED = r"(?s)=== state of {}[^\n]*===.*?=== end of state, pid \d+ ==="


def printed(process: Process, who: str, *, times: int = 1) -> str:
    """Ask a process for its state; the report."""
    process.signal(signal.SIGUSR1)
    return process.wait_for(PRINTED.format(who), times=times)[0]


def test_a_broker_prints_its_tasks_queues_and_sessions_and_works_on(
    field: Field, one_broker: RunningBroker
) -> None:
    broker = one_broker
    field.worker(broker.url)
    handle = app.hold.send(1.0)
    field.begun(handle)
    report = printed(broker.process, "broker")
    for part in ("intake: waiting ahead 0", "dispatcher: lanes with work", "database pool hot: connections"):
        assert part in report
    assert "sessions: 1\n" in report
    assert "leases 1" in report
    assert "held 1" in report
    assert "Dispatcher._assign_when_called" in report  # tasks, with where they wait
    assert "await self._called.wait()" in report
    assert "thread MainThread:" in report
    handle.wait(PATIENCE_S)
    assert handle.status == "completed"
    assert printed(broker.process, "broker", times=2)


def test_a_worker_prints_its_leases_and_children_and_no_run_is_interrupted(
    field: Field, one_broker: RunningBroker
) -> None:
    worker = field.worker(one_broker.url)
    handle = app.hold.send(1.0)
    execution = field.begun(handle)
    report = printed(worker, "worker")
    assert f"task {handle.id} " in report
    assert f"given to child {execution.pid}" in report
    assert f"child {execution.pid} READY: slots 1, given 1" in report
    assert "pool sync: " in report
    assert "hyrex-connection" in report
    handle.wait(PATIENCE_S)
    assert handle.status == "completed"
    assert len(field.executions(handle)) == 1


def test_the_parent_of_several_brokers_passes_the_signal_on(field: Field) -> None:
    broker = field.broker("--name", "many", "--processes", "2", port=free_port())
    broker.process.wait_for("broker ready", times=2)
    broker.process.signal(signal.SIGUSR1)
    broker.process.wait_for("=== end of state", times=2)
    assert {name for name in ("many-0", "many-1") if f"state of broker {name}," in broker.process.output} == {
        "many-0",
        "many-1",
    }


def test_brokers_that_are_asked_while_they_start_go_on_starting(field: Field) -> None:
    """SIGUSR1 ends a process that has no handler yet, so it begins by ignoring it."""
    command = [sys.executable, "-m", "hyrex_broker", "--processes", "2"]
    env = {"HYREX_DATABASE_URL": field.database_url}
    parent = field.processes.start("several", *command, "--listen", f"127.0.0.1:{free_port()}", env=env)
    eventually(lambda: catches(parent.pid, signal.SIGUSR1))
    while parent.output.count("broker ready") < 2:
        assert parent.running
        parent.signal(signal.SIGUSR1)
        time.sleep(0.02)
        assert "starting another" not in parent.output


def catches(pid: int, number: signal.Signals) -> bool:
    """Return True if a process has a handler for a signal."""
    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)


def test_a_report_that_nobody_reads_holds_nothing_up() -> None:
    """Its pipe is full: whoever wrote the report itself would stop for ever."""
    code = """
import asyncio, os, signal
from hyrex.runtime import state_report

async def main():
    state_report.install("full", lambda: ["x" * 200_000])
    os.kill(os.getpid(), signal.SIGUSR1)
    for _ in range(10):
        await asyncio.sleep(0.01)
    print("went on", flush=True)
    os._exit(0)

asyncio.run(main())
"""
    unread, full = os.pipe()
    try:
        command = [sys.executable, "-c", code]
        ended = subprocess.run(
            command, check=False, cwd=ROOT, stdout=subprocess.PIPE, stderr=full, timeout=PATIENCE_S
        )
    finally:
        os.close(unread)
        os.close(full)
    assert ended.stdout == b"went on\n"


def test_a_defect_of_the_state_is_printed_and_ends_nothing() -> None:
    code = """
import os, signal, sys, time
from hyrex.runtime import state_report

def broken():
    raise ValueError("no state today")

state_report.install("broken", broken)
os.kill(os.getpid(), signal.SIGUSR1)
sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    lines = []
    while "=== end of state" not in (line := process.stderr.readline()):
        lines.append(line)
        assert line, "".join(lines)
    process.communicate("", timeout=PATIENCE_S)
    assert "no state today" in "".join(lines)
    assert process.returncode == 0
