"""Any bytes and any order of frames get a typed answer, and nobody else notices."""

from functools import partial
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyrex.v1 import worker_service_pb2 as wire
from hyrex.v1.task_pb2 import Rate, RunError
from tests.integration.storage.stage import make_id
from tests.protocol_abuse.abuser import TYPED, hello, speak
from tests.protocol_abuse.conftest import Bystander
from tests.support.columns import completed

HEARTBEAT = wire.WorkRequest(heartbeat=wire.Heartbeat())
TASK = partial(wire.TaskDefinition, name="abused", queue="abuse", pool="all")
MORE_POOLS = wire.WorkRequest(
    capacity=wire.CapacityUpdate(pools=[wire.PoolCapacity(pool="another", maximum=1)])
)
MANY_HELD = wire.WorkRequest(heartbeat=wire.Heartbeat(sequence=1, held_tokens=range(100_001)))
INVALID = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
TOO_MANY = (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_ITEMS")
EMPTY_REPORT = wire.WorkRequest(report=wire.Report())


def _returned(count: int, **changes: Any) -> wire.WorkRequest:
    """A report of so many runs that returned, with some columns changed."""
    columns = {"task_ids": bytes(16 * count), "tokens": range(count), "results": [b"1"] * count} | changes
    return wire.WorkRequest(report=wire.Report(report_id=1, completed=[wire.CompletedRuns(**columns)]))


EMPTY_GROUP = _returned(1)
EMPTY_GROUP.report.completed.add()
BOUNDED = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
_texts = st.one_of(
    st.sampled_from(["", "\0", "x" * 300, "1", "-1", "9" * 30, make_id()]), st.text(max_size=20)
)
_numbers = st.integers(-(2**63), 2**63 - 1)
_small = st.integers(-(2**31), 2**31 - 1)
_refs = st.lists(st.builds(wire.LeaseRef, task_id=_texts, token=_numbers), max_size=3)
_errors = st.builds(wire.Failed, error=st.just(None), retryable=st.booleans())
_runs = st.lists(
    st.one_of(
        st.builds(wire.RunReport, task_id=_texts, token=_numbers),
        st.builds(wire.RunReport, task_id=_texts, token=_numbers, released=st.just(wire.Released())),
        st.builds(wire.RunReport, task_id=_texts, token=_numbers, lost=st.builds(wire.Lost, reason=_texts)),
    ),
    max_size=3,
)
_completed = st.lists(
    st.builds(
        wire.CompletedRuns,
        task_ids=st.sampled_from([b"", bytes(16), bytes(32), b"x" * 17]),
        tokens=st.lists(_numbers, max_size=2),
        elapsed_us=st.lists(st.integers(0, 2**64 - 1), max_size=2),
        results=st.lists(st.binary(max_size=50), max_size=2),
        content_type=_texts,
    ),
    max_size=2,
)
_pools = st.lists(st.builds(wire.PoolCapacity, pool=_texts, maximum=_small, slots=_small), max_size=3)
_frames = st.one_of(
    st.builds(
        lambda **fields: wire.WorkRequest(hello=wire.Hello(**fields)),
        worker_name=_texts, session_id=_texts, session_secret=st.binary(max_size=20), host=_texts, pid=_small,
        protocol_version=st.sampled_from([0, 1, 1, 1, 2]), queue_patterns=st.lists(_texts, max_size=2),
        held=_refs, received_through=_numbers, capacity=_pools,
    ),
    st.just(hello()),
    st.builds(lambda pools: wire.WorkRequest(capacity=wire.CapacityUpdate(pools=pools)), _pools),
    st.builds(
        lambda **fields: wire.WorkRequest(heartbeat=wire.Heartbeat(**fields)),
        sequence=_numbers, held_tokens=st.lists(_numbers, max_size=3), received_through=_numbers,
    ),
    st.builds(
        lambda **fields: wire.WorkRequest(report=wire.Report(**fields)),
        report_id=_numbers, runs=_runs, completed=_completed,
    ),
    st.just(wire.WorkRequest(drain=wire.WorkerDrain())),
    st.just(wire.WorkRequest(goodbye=wire.Goodbye())),
    st.just(wire.WorkRequest()),
)  # fmt: skip


@given(frames=st.lists(st.binary(max_size=200), min_size=1, max_size=4), polite=st.booleans())
@BOUNDED
def _random_bytes(channel: grpc.Channel, frames: list[bytes], polite: bool) -> None:
    outcome = speak(channel, [hello(), *frames] if polite else frames)
    assert outcome.code in TYPED, outcome


@given(frames=st.lists(_frames, min_size=1, max_size=6), polite=st.booleans())
@BOUNDED
def _random_frames(channel: grpc.Channel, frames: list[wire.WorkRequest], polite: bool) -> None:
    outcome = speak(channel, [hello(), *frames] if polite else frames)
    assert outcome.code in TYPED, outcome
    assert outcome.code is grpc.StatusCode.OK or outcome.reason, outcome


@given(frame=_frames, cut=st.floats(0, 1))
@BOUNDED
def _truncated_frames(channel: grpc.Channel, frame: wire.WorkRequest, cut: float) -> None:
    whole = frame.SerializeToString()
    outcome = speak(channel, [hello(), whole[: int(cut * len(whole))]])
    assert outcome.code in TYPED, outcome


def test_random_bytes_get_a_typed_status(bystander: Bystander) -> None:
    _random_bytes(bystander.channel)


def test_random_frames_in_any_order_get_a_typed_status(bystander: Bystander) -> None:
    _random_frames(bystander.channel)


def test_truncated_frames_get_a_typed_status(bystander: Bystander) -> None:
    _truncated_frames(bystander.channel)


@pytest.mark.parametrize(
    ("frames", "code", "reason"),
    [
        ([HEARTBEAT], grpc.StatusCode.FAILED_PRECONDITION, "HELLO_EXPECTED"),
        ([hello(), hello()], grpc.StatusCode.FAILED_PRECONDITION, "HELLO_EXPECTED"),
        ([hello(protocol_version=9)], grpc.StatusCode.FAILED_PRECONDITION, "PROTOCOL_UNSUPPORTED"),
        ([hello(queue_patterns=[])], *INVALID),
        ([hello(capacity=[])], *INVALID),
        ([hello(worker_name="\0")], *INVALID),
        ([hello(received_through=2**63 - 1)], *INVALID),
        ([hello(session_id="abc")], *INVALID),
        ([hello(queue_patterns=["q"] * 2000)], *TOO_MANY),
        ([hello(queue_patterns=["q*"] * 101)], *TOO_MANY),
        ([hello(queue_patterns=["a*b*c*d*e*"])], *INVALID),
        ([hello(pid=-1)], *INVALID),
        ([hello(capabilities=["c"] * 101)], *TOO_MANY),
        ([hello(tasks=[TASK(priority=100_000)])], *INVALID),
        ([hello(tasks=[TASK(priority=-1)])], *INVALID),
        ([hello(tasks=[TASK(max_retries=-1)])], *INVALID),
        ([hello(tasks=[TASK(max_concurrency=-1)])], *INVALID),
        ([hello(tasks=[TASK(max_concurrency=2**31 - 1)])], *INVALID),
        ([hello(tasks=[TASK(rate=Rate())])], *INVALID),
        ([hello(tasks=[TASK(rate=Rate(count=-1, period=Duration(seconds=1)))])], *INVALID),
        ([hello(tasks=[TASK(rate=Rate(count=1, period=Duration(seconds=-(2**60))))])], *INVALID),
        ([hello(tasks=[TASK(rate=Rate(count=1, period=Duration(seconds=1, nanos=1)))])], *INVALID),
        ([hello(tasks=[TASK(rate=Rate(count=1, period=Duration(seconds=1), burst=-1))])], *INVALID),
        ([hello(tasks=[TASK(timeout=Duration(seconds=2**40))])], *INVALID),
        ([hello(tasks=[TASK(), TASK()])], *INVALID),
        ([hello(queues=[wire.QueueDefinition(name="q")] * 2)], *INVALID),
        ([hello(), MORE_POOLS], *INVALID),
        ([hello(), MANY_HELD], *TOO_MANY),
        ([hello(), EMPTY_REPORT], *INVALID),
        ([hello(), _returned(0)], *INVALID),
        ([hello(), EMPTY_GROUP], *INVALID),
        ([hello(), _returned(2, task_ids=bytes(31))], *INVALID),
        ([hello(), _returned(2, task_ids=bytes(16))], *INVALID),
        ([hello(), _returned(2, results=[b"1"])], *INVALID),
        ([hello(), _returned(3, elapsed_us=[1, 2])], *INVALID),
        ([hello(), _returned(1001)], *TOO_MANY),
    ],
)  # fmt: skip
def test_a_broken_rule_is_named(
    bystander: Bystander, frames: list[wire.WorkRequest], code: grpc.StatusCode, reason: str
) -> None:
    outcome = speak(bystander.channel, frames)
    assert (outcome.code, outcome.reason) == (code, reason), outcome.details


def test_a_guessed_secret_opens_no_session(bystander: Bystander) -> None:
    (welcome, *_) = speak(bystander.channel, [hello()]).frames
    guess = hello(session_id=welcome.welcome.session_id, session_secret=b"guess")
    outcome = speak(bystander.channel, [guess])
    assert outcome.reason == "SESSION_SECRET_INVALID"


def test_a_frame_over_the_limit_is_refused_at_once(bystander: Bystander) -> None:
    outcome = speak(bystander.channel, [hello(), b"\x22" * (17 * 2**20)])
    assert outcome.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_reports_of_made_up_tokens_are_stale_however_often_they_are_replayed(bystander: Bystander) -> None:
    report = wire.WorkRequest(report=wire.Report(report_id=1, completed=[completed([(make_id(), 77)])]))
    outcome = speak(bystander.channel, [hello(), *[report] * 50, wire.WorkRequest(goodbye=wire.Goodbye())])
    assert outcome.code is grpc.StatusCode.OK
    acks = [frame.report_ack for frame in outcome.frames if frame.HasField("report_ack")]
    assert all(list(ack.stale_tokens) == [77] for ack in acks)


@pytest.mark.parametrize("seconds", [2**62, -(2**62), 1_795_000_000_000])
def test_times_beyond_all_sense_are_brought_into_bounds(bystander: Bystander, seconds: int) -> None:
    """A clock in milliseconds, say: a refused report would be repeated by its worker for ever."""
    beyond = Duration(seconds=seconds)
    failed = wire.Failed(error=RunError(type="E"), retryable=True, retry_delay=beyond)
    runs = [
        wire.RunReport(task_id=make_id(), token=77, elapsed=beyond, cancelled=wire.Cancelled()),
        wire.RunReport(task_id=make_id(), token=78, elapsed=beyond, failed=failed),
    ]
    returned = completed([(make_id(), 79)])
    returned.elapsed_us.append(2**64 - 1)
    report = wire.WorkRequest(report=wire.Report(report_id=1, runs=runs, completed=[returned]))
    outcome = speak(bystander.channel, [hello(), report])
    assert outcome.code is grpc.StatusCode.OK, outcome.details


def test_a_result_that_cannot_be_stored_fails_its_run_instead_of_the_stream(bystander: Bystander) -> None:
    """A refused report would be repeated by its worker for ever."""
    runs = completed([(make_id(), 77)], content_type="x" * 300)
    report = wire.WorkRequest(report=wire.Report(report_id=1, completed=[runs]))
    outcome = speak(bystander.channel, [hello(), report])
    assert outcome.code is grpc.StatusCode.OK, outcome.details


def test_a_receipt_beyond_what_was_sent_counts_as_all_of_it(bystander: Bystander) -> None:
    beat = wire.WorkRequest(heartbeat=wire.Heartbeat(sequence=1, received_through=2**63 - 1))
    (welcome, *_) = speak(bystander.channel, [hello(), beat]).frames
    again = hello(
        session_id=welcome.welcome.session_id,
        session_secret=welcome.welcome.session_secret,
        received_through=2**53,
    )
    outcome = speak(bystander.channel, [again, beat, wire.WorkRequest(goodbye=wire.Goodbye())])
    assert outcome.code is grpc.StatusCode.OK, outcome.details
    assert outcome.frames[0].welcome.resumed


def test_frames_of_a_later_version_are_ignored(bystander: Bystander) -> None:
    unknown = bytes([0xFA, 0x7F, 3]) + b"abc"
    outcome = speak(bystander.channel, [hello(), unknown, wire.WorkRequest(goodbye=wire.Goodbye())])
    assert outcome.code is grpc.StatusCode.OK
