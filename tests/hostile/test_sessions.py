"""Sessions that are opened and dropped, that never read, or that come all at once."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from hyrex.v1 import task_pb2, task_service_pb2, task_service_pb2_grpc
from hyrex.v1 import worker_service_pb2 as wire
from tests.hostile.victim import BEARER, TOKEN, WITHIN_S, Victim, open_channel
from tests.hostile.worker import RawWorker, serving
from tests.support.columns import assigned
from tests.support.eventually import eventually
from tests.support.postgres import copied_database
from tests.support.processes import Processes

_LEASE_S: Final = 3
_FLOOD: Final = 600
_HELD: Final = 300


@pytest.fixture(scope="module")
def quick(postgres_url: str, template_database: str) -> Iterator[Victim]:
    """A broker whose leases are short."""
    name = f"hyrex_hostile_sessions_{os.getpid()}"
    with copied_database(postgres_url, template_database, name) as url:
        owner = Processes()
        yield Victim(owner, owner.broker(url, "--lease-duration", str(_LEASE_S), env={"HYREX_TOKEN": TOKEN}))
        owner.end()


def _status(victim: Victim, task_id: str) -> int:
    stub = task_service_pb2_grpc.TaskServiceStub(victim.channel)
    request = task_service_pb2.GetTaskRequest(task_id=task_id)
    return stub.GetTask(request, timeout=WITHIN_S, metadata=BEARER).task.status


def _drop(victim: Victim, count: int) -> None:
    """Open sessions and drop them at once."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: _open_and_close(victim), range(count)))


def _open_and_close(victim: Victim) -> None:
    channel = open_channel(victim.address)
    worker = RawWorker(channel, **serving("nowhere"))
    worker.welcome()
    worker.close()
    channel.close()


def test_a_flood_of_sessions_costs_others_nothing_and_delays_no_dead_workers_run(quick: Victim) -> None:
    """That those with leases are swept first is shown in tests/integration/engine/test_liveness.py."""
    with quick.watched() as damage:
        _drop(quick, _FLOOD)
        worker = RawWorker(open_channel(quick.address), **serving("flooded"))
        worker.welcome()
        (task_id,) = quick.submit(1, queue="flooded")
        worker.read("assignments")
        began = time.monotonic()
        worker.close()
        _drop(quick, 50)
        eventually(lambda: _status(quick, task_id) == task_pb2.TASK_STATUS_QUEUED, within_s=WITHIN_S)
        assert time.monotonic() - began < 4 * _LEASE_S
    damage.is_little(peak_mib=60)


def test_a_worker_that_beats_and_never_reads_loses_what_it_was_sent(quick: Victim) -> None:
    """It held 300 tasks for ever, beside an idle one."""
    silent = RawWorker(open_channel(quick.address), **serving("unread", _HELD))
    silent.welcome()
    ids = set(quick.submit(_HELD, queue="unread"))
    idle = RawWorker(open_channel(quick.address), **serving("unread", _HELD))
    idle.welcome()
    beat, found, tokens = 0, set[str](), list[int]()
    deadline = time.monotonic() + WITHIN_S
    with ThreadPoolExecutor(1) as pool:
        while not ids <= found:
            reading = pool.submit(idle.read, "assignments")
            while not reading.done():
                assert time.monotonic() < deadline, f"{len(found)} of {len(ids)} came to the idle worker"
                beat += 1
                silent.send(wire.WorkRequest(heartbeat=wire.Heartbeat(sequence=beat)))
                idle.send(wire.WorkRequest(heartbeat=wire.Heartbeat(sequence=beat, held_tokens=tokens)))
                time.sleep(_LEASE_S / 10)
            found |= {run.task_id for run in assigned(reading.result())}
            tokens += [run.token for run in assigned(reading.result())]
    silent.close()
    idle.close()
