"""Callers who ask for much and read none of it, or whose fields grow where nobody counted: labels, runs."""

from hyrex.v1 import task_pb2, task_service_pb2, task_service_pb2_grpc
from hyrex_broker.service.unread import AT_ONCE
from tests.hostile.http2 import RawConnection
from tests.hostile.victim import BEARER, WITHIN_S, Victim
from tests.integration.storage.conftest import execute
from tests.integration.storage.stage import make_id
from tests.support.eventually import eventually
from tests.support.postgres import run_apart

PAYLOAD = 2 * 2**20
LABELS = 60_000
GET = "/hyrex.v1.TaskService/GetTask"
WATCH = "/hyrex.v1.TaskService/WatchTasks"


def test_answers_that_nobody_reads_are_few(victim: Victim) -> None:
    """200 answers of 2 MiB to a caller whose window stays closed: 1.7 GB for 300 of 4 MiB, once."""
    (large,) = victim.submit(1, queue="large", payload=b"x" * PAYLOAD)
    asks = task_service_pb2.GetTaskRequest(task_id=large).SerializeToString()
    with victim.watched() as damage, RawConnection(victim.address, window=0) as deaf:
        streams = [deaf.call(GET, asks, metadata=BEARER) for _ in range(200)]
        # The first ones are never read; the others are refused, by statuses that need no window.
        eventually(lambda: len(deaf.ended) >= len(streams) - 8, WITHIN_S)
    damage.is_little(peak_mib=150)


def test_frames_of_watches_that_nobody_reads_are_few(victim: Victim, attacked_url: str) -> None:
    """200 watches of a result of 2 MiB, by a caller whose window stays closed."""
    (task_id,) = victim.submit(1, queue="watched")
    run_apart(execute(attacked_url, *many_results(task_id, runs=1)))
    asks = task_service_pb2.WatchTasksRequest(task_ids=[task_id]).SerializeToString()
    with victim.watched() as damage, RawConnection(victim.address, window=0) as deaf:
        streams = [deaf.call(WATCH, asks, metadata=BEARER) for _ in range(200)]
        eventually(lambda: len(deaf.ended) >= len(streams) - AT_ONCE, WITHIN_S)
    damage.is_little(peak_mib=150)


def test_whoever_reads_is_never_refused(victim: Victim) -> None:
    (large,) = victim.submit(1, queue="large", payload=b"x" * PAYLOAD)
    stub = task_service_pb2_grpc.TaskServiceStub(victim.channel)
    request = task_service_pb2.GetTaskRequest(task_id=large)
    calls = [stub.GetTask.future(request, timeout=WITHIN_S, metadata=BEARER) for _ in range(60)]
    assert {len(call.result().task.payload) for call in calls} == {PAYLOAD}


def test_labels_of_all_tasks_fit_into_a_page_and_a_frame(victim: Victim) -> None:
    """A page or a frame of 300 tasks had 18 MB of labels: more than a message may have."""
    labels = {"long": "x" * LABELS}
    stub = task_service_pb2_grpc.TaskServiceStub(victim.channel)
    ids: list[str] = []
    for _ in range(3):
        tasks = [
            task_pb2.NewTask(task_id=make_id(), name="n", queue="labels", labels=labels) for _ in range(100)
        ]
        stub.SubmitTasks(task_service_pb2.SubmitTasksRequest(tasks=tasks), timeout=WITHIN_S, metadata=BEARER)
        ids += [task.task_id for task in tasks]
    with victim.watched() as damage:
        listed = listed_of(stub, "labels")
        watched: dict[str, str] = {}
        call = stub.WatchTasks(
            task_service_pb2.WatchTasksRequest(task_ids=ids), timeout=WITHIN_S, metadata=BEARER
        )
        for frame in call:
            assert frame.ByteSize() < 2 * 2**20
            watched |= {task.task_id: task.labels["long"] for task in frame.tasks}
            if len(watched) == len(ids):
                call.cancel()
                break
    assert sorted(listed) == sorted(ids)
    assert {len(text) for text in watched.values()} == {LABELS}
    damage.is_little(peak_mib=150)


def listed_of(stub: task_service_pb2_grpc.TaskServiceStub, queue: str) -> list[str]:
    """All ids of a queue, page by page."""
    request, found = task_service_pb2.ListTasksRequest(queue=queue, page_size=1000), []
    while True:
        page = stub.ListTasks(request, timeout=WITHIN_S, metadata=BEARER)
        found += [task.task_id for task in page.tasks]
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


def test_a_task_of_many_large_runs_is_read_in_part(victim: Victim, attacked_url: str) -> None:
    """Runs are without end, by retries; each has a result of up to the payload limit."""
    (task_id,) = victim.submit(1, queue="reopened")
    run_apart(execute(attacked_url, *many_results(task_id, runs=200)))
    stub = task_service_pb2_grpc.TaskServiceStub(victim.channel)
    with victim.watched() as damage:
        task = stub.GetTask(
            task_service_pb2.GetTaskRequest(task_id=task_id), timeout=WITHIN_S, metadata=BEARER
        ).task
        frames = list(
            stub.WatchTasks(
                task_service_pb2.WatchTasksRequest(task_ids=[task_id]), timeout=WITHIN_S, metadata=BEARER
            )
        )
    assert len(task.runs) == 200
    assert [len(run.result) for run in task.runs][-2:] == [PAYLOAD, PAYLOAD]
    assert sum(len(run.result) for run in task.runs) < 12 * 2**20
    assert len(frames[-1].tasks[0].runs[-1].result) == PAYLOAD
    damage.is_little(peak_mib=150)


def many_results(task_id: str, runs: int) -> tuple[str, str]:
    """As if this task had been retried again and again: its runs, and no live row."""
    return (
        f"delete from ready where task_id = '{task_id}'",
        "insert into task_run (task_id, run_number, attempt_number, outcome, final, result)"
        f" select '{task_id}', run, run, 2, true, convert_to(repeat('r', {PAYLOAD}), 'UTF8')"
        f" from generate_series(0, {runs - 1}) as run",
    )


def test_a_header_that_is_no_text_is_not_told_of(victim: Victim) -> None:
    """gRPC logged a traceback for each such header, of anybody, without a token."""
    odd = ((b"authorization", b"Bearer \xff\xfe"), (b"x-odd", b"\x80"))
    with victim.watched() as damage, RawConnection(victim.address) as anybody:
        streams = [anybody.call(GET, b"", metadata=odd) for _ in range(20)]
        eventually(lambda: len(anybody.ended) == len(streams), WITHIN_S)
    damage.is_little(peak_mib=20)
    assert damage.said == ""
