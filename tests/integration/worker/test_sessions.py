"""Streams that break, brokers that come and go, leases that cannot be renewed."""

import asyncio
import signal
import time
from typing import Any

import grpc
import pytest

from hyrex.transport.channel import open_address, parse_url
from hyrex.v1 import worker_service_pb2 as wire
from hyrex.v1.worker_service_pb2_grpc import WorkerServiceStub
from hyrex.worker.shared.child_messages import Imported
from hyrex.worker.shared.memory import TrustCell, create_fd
from hyrex.worker.stream.convert import Registration
from hyrex.worker.stream.outbox import StreamOutput
from hyrex.worker.stream.session import WorkerSession
from hyrex.worker.stream.stream import Stream, StreamEnded, StreamParts
from hyrex.worker.stream.workload import Workload
from tests.integration.worker.conftest import Bench
from tests.support.columns import told_runs
from tests.support.scripted_broker import assignment, refusal, scripted_broker
from tests.support.trees import signal_all


async def test_run_goes_on_while_the_stream_is_cut_and_its_result_is_delivered(bench: Bench) -> None:
    await bench.ready()
    run = assignment("sleep", {"seconds": 1})
    await bench.broker.assign(run)
    await bench.noted("sleep")
    await bench.broker.cut()
    assert (await bench.broker.outcome(run)).HasField("completed")
    hello = bench.broker.hellos[1]
    assert hello.session_id == bench.broker.session_id
    assert hello.session_secret == b"secret"
    assert [ref.token for ref in hello.held] == [run.token]
    assert hello.received_through == 1
    assert len([line for line in bench.journal() if line.startswith("sleep")]) == 1


async def test_report_is_repeated_under_its_number_until_acknowledged(bench: Bench) -> None:
    bench.broker.acknowledge_reports = False
    await bench.ready()
    run = assignment("add", {"a": 1, "b": 2})
    await bench.broker.assign(run)
    await bench.broker.outcome(run)
    await bench.broker.cut()
    await bench.broker.until(lambda: len(bench.broker.reports) == 2)
    first, second = bench.broker.reports
    assert first == second
    assert [ref.token for ref in bench.broker.hellos[1].held] == [run.token]
    ack = wire.ReportAck(report_id=second.report_id, duplicate_tokens=[run.token])
    await bench.broker.say(wire.WorkResponse(report_ack=ack))
    await bench.broker.cut()
    await bench.broker.until(lambda: len(bench.broker.hellos) == 3)
    assert not bench.broker.hellos[2].held


async def test_unacknowledged_runs_stay_within_what_the_broker_grants(bench: Bench) -> None:
    bench.broker.max_unacknowledged = 3
    await bench.fetching("--prefetch", "10")
    bench.broker.acknowledge_reports = False
    runs = [assignment("add", {"a": n, "b": 2}) for n in range(8)]
    await bench.broker.assign(*runs)
    await bench.broker.until(lambda: bool(bench.broker.reports))
    bench.broker.acknowledge_reports = True
    for report in list(bench.broker.reports):
        await bench.broker.say(wire.WorkResponse(report_ack=wire.ReportAck(report_id=report.report_id)))
    for run in runs:
        await bench.broker.outcome(run)
    assert max(len(told_runs(report)) for report in bench.broker.reports) <= 3


async def test_session_that_is_not_resumed_stops_its_runs_without_reporting_them(bench: Bench) -> None:
    await bench.ready()
    run, after = assignment("spin"), assignment("add", {"a": 1, "b": 1})
    await bench.broker.assign(run)
    await bench.noted("spin")
    bench.broker.resume = False
    await bench.broker.cut()
    await bench.broker.assign(after)
    await bench.complete(after)
    assert run.token not in bench.broker.outcomes


async def test_lease_revoked_at_welcome_stops_its_run(bench: Bench) -> None:
    await bench.ready("-t", "2")
    void, kept = assignment("spin"), assignment("sleep", {"seconds": 2})
    await bench.broker.assign(void, kept)
    await bench.noted("spin")
    bench.broker.revoke_at_welcome = [wire.LeaseRef(task_id=void.task_id, token=void.token)]
    await bench.broker.cut()
    assert (await bench.broker.outcome(kept)).HasField("completed")
    assert void.token not in bench.broker.outcomes


async def test_ended_session_is_forgotten_and_a_new_one_begun(bench: Bench) -> None:
    await bench.ready()
    run = assignment("spin")
    await bench.broker.assign(run)
    await bench.noted("spin")
    bench.broker.refusal = refusal(grpc.StatusCode.FAILED_PRECONDITION, "SESSION_ENDED")
    await bench.broker.cut()
    await bench.broker.until(lambda: len(bench.broker.hellos) >= 2)
    bench.broker.refusal = None
    after = assignment("add", {"a": 1, "b": 1})
    await bench.broker.assign(after)
    await bench.broker.outcome(after)
    assert bench.broker.hellos[1].session_id
    assert not bench.broker.hellos[-1].session_id
    assert not bench.broker.hellos[-1].held
    assert run.token not in bench.broker.outcomes


class Once(dict[str, str]):
    """Each value is there for whoever asks first."""

    def get(self, key: str, default: Any = None) -> Any:
        return self.pop(key, default)


async def test_session_that_ends_under_its_stream_is_named_once_more_and_its_runs_are_stopped(
    bench: Bench,
) -> None:
    await bench.ready("-t", "2")
    ended, run = bench.broker.session_id, assignment("spin")
    await bench.broker.assign(run)
    await bench.noted("spin")
    bench.broker.resume, bench.broker.ends_at = False, Once(report="SESSION_ENDED")
    await bench.broker.assign(assignment("add", {"a": 1, "b": 1}))
    await bench.broker.until(lambda: len(bench.broker.hellos) >= 2)
    assert bench.broker.hellos[1].session_id == ended
    after = assignment("add", {"a": 1, "b": 1})
    await bench.broker.assign(after)
    await bench.complete(after)
    assert run.token not in bench.broker.outcomes


@pytest.mark.parametrize(
    ("code", "reason", "text"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID", "refuses the token (HYREX_TOKEN)"),
        (grpc.StatusCode.PERMISSION_DENIED, "RIGHT_MISSING", "is -q wider than its queues?"),
        (grpc.StatusCode.FAILED_PRECONDITION, "PROTOCOL_UNSUPPORTED", "protocol version"),
    ],
)
async def test_what_no_retry_can_mend_ends_the_worker_with_status_4(
    bench: Bench, code: grpc.StatusCode, reason: str, text: str
) -> None:
    bench.broker.refusal = refusal(code, reason)
    worker = await bench.start()
    assert await worker.exit_status() == 4
    await worker.printed(text)


@pytest.mark.parametrize(("kind", "reason"), [("heartbeat", ""), ("report", "INVALID_FIELD")])
async def test_stream_that_ends_again_and_again_is_tried_less_often(
    bench: Bench, kind: str, reason: str
) -> None:
    await bench.ready()
    began, before = time.monotonic(), len(bench.broker.hellos)
    bench.broker.ends_at = {kind: reason}
    await bench.broker.assign(assignment("add", {"a": 1, "b": 1}))
    await bench.broker.cut()
    await bench.broker.until(lambda: len(bench.broker.hellos) >= before + 6)
    assert time.monotonic() - began > 0.7  # 0.05 + 0.1 + 0.2 + 0.37 s at least, runs at stake or not
    bench.broker.ends_at = {}
    await bench.broker.until(lambda: bench.broker.outcomes)


class BrokenOutbox(StreamOutput):
    """Has a frame that cannot be made."""

    def next_frame(self) -> wire.WorkRequest | None:
        raise ValueError("no such frame")


async def test_stream_whose_writer_fails_is_left_with_the_reason(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    session = WorkerSession(TrustCell(create_fd(TrustCell.SIZE_BYTES)))
    outbox = BrokenOutbox(session)
    registration = Registration("worker", ("*",), Imported([], []))
    workload = Workload(session, outbox.reports, {})
    async with open_address(parse_url(bench.broker.url)[0]) as channel:
        call = WorkerServiceStub(channel).Work()
        stream = Stream(StreamParts(registration, session, workload, outbox, lambda: None), call)
        with pytest.raises(StreamEnded, match="its writer failed: ValueError"):
            await stream.run()
    assert "the writer of the stream failed" in caplog.text


async def test_token_travels_with_every_call(bench: Bench) -> None:
    worker = await bench.start("--token", "s3cret")
    await worker.printed("worker ready")
    assert bench.broker.metadata["authorization"] == "Bearer s3cret"
    assert "s3cret" not in " ".join(worker.stream_process().cmdline())


async def test_worker_may_start_before_its_broker_and_outlive_it(bench: Bench) -> None:
    async with scripted_broker() as gone:
        url, port = gone.url, int(gone.url.rpartition(":")[2])
    bench.broker.url, original = url, bench.broker.url
    worker = await bench.start()
    await worker.printed("cannot reach a broker at")
    for _ in range(2):
        async with scripted_broker(port) as broker:
            run = assignment("add", {"a": 1, "b": 1})
            await broker.assign(run)
            assert (await broker.outcome(run)).HasField("completed")
    bench.broker.url = original
    assert len([line for line in worker.output if "cannot reach" in line]) == 1


async def test_worker_leaves_a_draining_broker_for_the_next_one(bench: Bench) -> None:
    async with scripted_broker() as other:
        bench.broker.url += "," + other.url
        worker = await bench.start()
        await worker.printed("worker ready")
        # Which of the two a worker begins with is left to chance.
        first, last = (bench.broker, other) if bench.broker.hellos else (other, bench.broker)
        run = assignment("sleep", {"seconds": 1})
        await first.assign(run)
        await bench.noted("sleep")
        drain = wire.BrokerDrain(reason="bye")
        drain.reconnect_jitter.FromMilliseconds(100)
        await first.say(wire.WorkResponse(drain=drain))
        assert (await last.outcome(run)).HasField("completed")
        assert [ref.token for ref in last.hellos[0].held] == [run.token]


async def test_heartbeats_name_what_is_held_and_received(bench: Bench) -> None:
    bench.broker.lease_s = 1.5
    await bench.ready()
    run = assignment("sleep", {"seconds": 60})
    await bench.broker.assign(run)
    await bench.noted("sleep")

    def beats() -> list[wire.Heartbeat]:
        return [frame.heartbeat for frame in bench.broker.frames if frame.HasField("heartbeat")]

    await bench.broker.until(lambda: any(beat.held_tokens for beat in beats()))
    last = beats()[-1]
    assert list(last.held_tokens) == [run.token]
    assert last.received_through == 1
    assert [beat.sequence for beat in beats()] == list(range(1, len(beats()) + 1))


@pytest.mark.alone
async def test_runs_stop_before_a_lease_ends_that_cannot_be_renewed(bench: Bench) -> None:
    bench.broker.lease_s = 2.0
    await bench.ready("-t", "2")
    polite, deaf = assignment("spin"), assignment("stubborn")
    await bench.broker.assign(polite, deaf)
    await bench.noted("spin")
    await bench.noted("stubborn")
    bench.broker.acknowledge_heartbeats = False
    began = time.monotonic()
    released = (await bench.broker.outcome(polite)).released
    assert released.started
    lost = (await bench.broker.outcome(deaf)).lost
    assert not lost.alone
    assert time.monotonic() - began < 2.0
    after = assignment("add", {"a": 1, "b": 1})
    await bench.broker.assign(after)
    bench.broker.acknowledge_heartbeats = True
    await bench.complete(after)


async def test_nothing_starts_while_leases_are_not_trusted(bench: Bench) -> None:
    bench.broker.lease_s = 2.0
    await bench.ready()
    bench.broker.acknowledge_heartbeats = False
    await asyncio.sleep(2.0)  # the lease's own time
    run = assignment("sleep", {"seconds": 0})
    await bench.broker.assign(run)
    sent = len(bench.broker.frames)
    await bench.broker.until(lambda: len(bench.broker.frames) > sent)
    if len(bench.broker.hellos) == 1:  # a new stream's Welcome would have renewed the lease
        assert not [line for line in bench.journal() if line.startswith("sleep")]
    bench.broker.acknowledge_heartbeats = True
    assert (await bench.broker.outcome(run)).HasField("completed")


async def test_worker_that_was_stopped_for_longer_than_its_lease_does_not_run_on(bench: Bench) -> None:
    bench.broker.lease_s = 1.0
    worker = await bench.ready()
    run = assignment("spin")
    await bench.broker.assign(run)
    child = int((await bench.noted("spin")).split()[1])
    processes = [worker.stream_process(), *worker.children()]
    signal_all(processes, signal.SIGSTOP)
    await asyncio.sleep(1.2)  # longer than the lease
    signal_all(processes, signal.SIGCONT)
    told = await bench.broker.outcome(run)
    assert told.WhichOneof("outcome") in ("lost", "released")
    assert child not in {one.pid for one in worker.children()} or told.HasField("released")
