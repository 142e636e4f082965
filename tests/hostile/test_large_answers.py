"""Answers that others made large: workers with very many names, tasks with very many long tracebacks."""

from hyrex.v1 import admin_service_pb2, admin_service_pb2_grpc, task_service_pb2, task_service_pb2_grpc
from hyrex.v1 import worker_service_pb2 as wire
from tests.hostile.victim import BEARER, WITHIN_S, Victim, send
from tests.integration.storage.conftest import execute
from tests.protocol_abuse.abuser import METHOD, hello
from tests.support.postgres import run_apart

TRACEBACK = 256 * 1024
RUNS = 25
TASKS = 60


def test_workers_with_very_many_names_are_listed_in_pages_that_fit(victim: Victim) -> None:
    """Eight of them made an answer over 16 MiB, which could not be sent."""
    tasks = [
        wire.TaskDefinition(name=f"{number:05}".ljust(255, "n"), queue="large", pool="all")
        for number in range(10_000)
    ]
    workers = admin_service_pb2_grpc.AdminServiceStub(victim.channel)
    request = admin_service_pb2.ListWorkersRequest(include_ended=True)
    for number in range(8):
        said = hello(worker_name=f"large-{number}", tasks=tasks).SerializeToString()
        assert send(victim.channel, METHOD, said, metadata=BEARER)
    found = []
    with victim.watched() as damage:
        while True:
            answer = workers.ListWorkers(request, timeout=WITHIN_S, metadata=BEARER)
            assert answer.ByteSize() < 16 * 2**20
            found += [worker.worker_name for worker in answer.workers]
            request.page_token = answer.next_page_token
            if not request.page_token:
                break
    assert {f"large-{number}" for number in range(8)} <= set(found)
    damage.is_little(peak_mib=250)


def test_a_watch_of_long_tracebacks_does_not_hold_them_all(victim: Victim, attacked_url: str) -> None:
    """60 tasks with 25 runs of 256 KiB each cost 500 MiB. They pass through in frames instead."""
    ids = victim.submit(TASKS, queue="failing")
    run_apart(execute(attacked_url, *end_all(ids)))
    tasks = task_service_pb2_grpc.TaskServiceStub(victim.channel)
    request = task_service_pb2.WatchTasksRequest(task_ids=ids)
    seen: dict[str, int] = {}
    with victim.watched() as damage:
        for frame in tasks.WatchTasks(request, timeout=WITHIN_S, metadata=BEARER):
            for task in frame.tasks:
                seen[task.task_id] = len(task.runs[-1].error.traceback)
    assert seen == dict.fromkeys(ids, TRACEBACK)
    damage.is_little(peak_mib=200)


def end_all(ids: list[str]) -> tuple[str, str]:
    """As if these tasks had failed many times: their runs, and no live row."""
    listed = ", ".join(f"'{task_id}'" for task_id in ids)
    runs = (
        "insert into task_run (task_id, run_number, attempt_number, outcome, final, error_type, traceback)"
        f" select id, run, run, 3, run = {RUNS - 1}, 'ValueError', repeat('t', {TRACEBACK})"
        f" from unnest(array[{listed}]::uuid[]) as id, generate_series(0, {RUNS - 1}) as run"
    )
    return f"delete from ready where task_id in ({listed})", runs
