"""Wire messages as values for people and programs."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyrex.cli.output import duration
from hyrex.cli.wire import queue_values, word
from hyrex.cli.wire_tasks import content, task_facts, task_values
from hyrex.v1 import queue_service_pb2, task_pb2


def test_enum_words_have_no_prefix() -> None:
    assert word(task_pb2.TaskStatus, task_pb2.TASK_STATUS_TIMED_OUT) == "timed_out"
    assert word(task_pb2.RunStatus, task_pb2.RUN_STATUS_RELEASED) == "released"


def test_value_of_a_newer_version_is_shown_as_its_number() -> None:
    assert word(task_pb2.TaskStatus, 99) == "99"


def test_json_content_is_decoded_and_anything_else_kept_as_base64() -> None:
    assert content(b'{"a": 1}', "") == {"a": 1}
    assert content(b"\xff", "application/octet-stream") == {
        "base64": "/w==",
        "content_type": "application/octet-stream",
    }


def test_what_a_codec_has_encoded_is_no_json_though_its_content_is() -> None:
    task = task_pb2.Task(task_id="i", name="n", payload=b"1", codec="zstd")
    assert task_values(task)["payload"] == {"base64": "MQ==", "content_type": "", "codec": "zstd"}


@given(st.binary(max_size=50))
def test_content_is_never_refused(data: bytes) -> None:
    content(data, "application/json")


def test_task_with_a_failed_run() -> None:
    run = task_pb2.TaskRun(run_number=1, status=task_pb2.RUN_STATUS_FAILED, worker="w")
    run.error.type = "ValueError"
    run.started_at.FromDatetime(datetime(2026, 1, 1, tzinfo=UTC))
    run.finished_at.FromDatetime(datetime(2026, 1, 1, 0, 0, 2, tzinfo=UTC))
    task = task_pb2.Task(task_id="i", name="n", status=task_pb2.TASK_STATUS_FAILED, runs=[run])
    values = task_values(task)
    assert values["status"] == "failed"
    assert values["runs"][0]["duration_seconds"] == 2.0
    assert values["runs"][0]["error"]["type"] == "ValueError"
    assert values["runs"][0]["result"] is None


def test_a_task_names_the_trace_that_it_was_sent_in() -> None:
    traceparent = f"00-{'ab' * 16}-{'cd' * 8}-01"
    values = task_values(task_pb2.Task(task_id="i", name="n", traceparent=traceparent))
    assert (values["traceparent"], task_facts(values)["trace"]) == (traceparent, "ab" * 16)
    values = task_values(task_pb2.Task(task_id="i", name="n"))
    assert (values["traceparent"], task_facts(values)["trace"]) == (None, None)


def test_a_task_names_its_concurrency_key() -> None:
    values = task_values(task_pb2.Task(task_id="i", name="n", concurrency_key="ada", max_per_key=2))
    assert (values["concurrency_key"], values["max_per_key"]) == ("ada", 2)
    assert task_facts(values)["concurrency key"] == "ada (2 at once)"
    assert task_facts(task_values(task_pb2.Task(task_id="i", name="n")))["concurrency key"] is None


def test_queue_without_a_limit_has_none() -> None:
    assert queue_values(queue_service_pb2.Queue(name="q"))["concurrency_limit"] is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, ""), (0.004, "4 ms"), (1.25, "1.25 s"), (200.0, "3 min 20 s")]
)
def test_durations_are_short(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
