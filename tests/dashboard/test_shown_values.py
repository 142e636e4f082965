"""Values as people see them: text, JSON, tracebacks, times, commands to copy."""

import html
import json
import re
import shlex
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import typer
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from hyrex.cli import task_send
from hyrex.cli.connection import DEFAULT_URL
from hyrex.dashboard.pages.task import command_of, ordered
from hyrex.dashboard.render import json_view, tracebacks
from hyrex.dashboard.render.charts import Chart, Series, Trend, drawn, spark
from hyrex.dashboard.render.text import HIDDEN, visible
from hyrex.dashboard.render.timeline import WIDTH, bars_of
from hyrex.dashboard.render.values import duration
from hyrex.dashboard.trends import request_of, trend_of
from hyrex.runtime.shell import shell_word
from hyrex.v1 import admin_service_pb2 as admin
from hyrex.v1 import task_pb2

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(value=JSON_VALUES)
@settings(deadline=None, max_examples=150)
def test_json_is_laid_out_and_means_the_same(value: object) -> None:
    shown = json_view.json_html(json.dumps(value))
    assert shown is not None
    assert json.loads(html.unescape(re.sub(r"</?span[^>]*>", "", shown))) == value


@pytest.mark.parametrize(
    "text", ["{", "[1,]", "nul", "\ufeff{}", "[" * 5000 + "]" * 5000, "[" * 300 + "]" * 300]
)
def test_what_is_no_json_or_too_deep_is_shown_as_it_is(text: str) -> None:
    shown = json_view.content(text.encode(), "")
    assert shown.kind == "text"
    assert shown.html.unescape() == visible(text)


def test_long_contents_are_cut_and_bytes_are_dumped() -> None:
    long = json_view.content(b'["' + b"x" * 100_000 + b'"]', "")
    assert (long.kind, long.cut, len(html.unescape(long.html))) == ("text", True, json_view.SHOWN_BYTES)
    assert json_view.content(b"\xff\xfe<b>", "").kind == "binary"
    for cut in (json_view.content(b"\xff" * 8193, ""), json_view.content(b"1" * 8193, "", look="hex")):
        assert (cut.kind, cut.cut, cut.html.count("\n")) == ("binary", True, 511), "the first 8 KiB"
    assert "3c 62 3e" in json_view.content(b"\xff\xfe<b>", "").html
    assert json_view.content(b"{}", "", "zstd").kind == "binary"
    assert json_view.content(b"", "").kind == "empty"


@given(text=st.text())
@settings(deadline=None, max_examples=200)
def test_no_hidden_character_is_left_in_shown_text(text: str) -> None:
    assert not HIDDEN.search(visible(text))


@given(text=st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1))
@settings(deadline=None, max_examples=40)
def test_a_copied_word_is_one_word_for_the_shell_and_harmless_to_the_terminal(text: str) -> None:
    word = shell_word(text)
    assert word.isprintable()
    assert not HIDDEN.search(word)
    said = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True)
    assert said.stdout.decode() == text


@pytest.mark.parametrize("name", ["mail", "a-b.c:d/e@f", "x,y"])
def test_a_plain_word_is_copied_as_it_is(name: str) -> None:
    assert shell_word(name) == name == shlex.split(shell_word(name))[0]


@pytest.mark.parametrize(
    ("name", "payload", "queue"),
    [
        ("--broker-url=grpc://evil.example", b'{"a": 1}', "mail"),
        ("-q", b"", "--wait=9"),
        ("greet", b"-1", "mail"),
        ("-", b"[]", "-"),
        ("greet", b'{"who": "Ada"}', "mail"),
    ],
)
def test_a_copied_command_takes_nothing_that_users_wrote_for_an_option(
    name: str, payload: bytes, queue: str
) -> None:
    """A task's name could lead a command that is pasted, and with it the token, to another broker."""
    words = shlex.split(command_of(task_pb2.Task(name=name, payload=payload, queue=queue)))
    assert words[:3] == ["hyrex", "task", "send"]
    program = typer.Typer()
    program.command()(task_send.send)
    send: Any = typer.main.get_command(program)
    read = send.make_context("send", words[3:]).params
    assert (read["name"], read["arguments"], read["queue"]) == (name, payload.decode() or "{}", queue)
    assert (read["broker_url"], read["wait"]) == (DEFAULT_URL, 0)


def test_frames_of_libraries_are_folded() -> None:
    traceback = """Traceback (most recent call last):
  File "/srv/shop/tasks.py", line 9, in charge
    client.post(url)
  File "/usr/lib/python3.12/site-packages/httpx/_client.py", line 1, in post
    return self.request()
  File "/usr/lib/python3.12/site-packages/httpx/_client.py", line 2, in request
    raise error
httpx.ConnectError: refused
"""
    parts = tracebacks.parts_of(traceback)
    assert [(part.folded, part.count) for part in parts] == [(False, 1), (True, 2), (False, 0)]
    assert "\n".join(part.text for part in parts) == traceback.rstrip()


def test_a_traceback_without_a_frame_of_the_users_is_open() -> None:
    text = 'Traceback:\n  File "/usr/lib/python3.12/json/decoder.py", line 1, in x\n    y\nValueError: z'
    assert [part.folded for part in tracebacks.parts_of(text)] == [False]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.00042, "0.4 ms"),
        (0.0025, "2.5 ms"),
        (0.005, "5 ms"),
        (0.0421, "42 ms"),
        (3.14, "3.1 s"),
        (59.9, "60 s"),
        (125, "2 min 5 s"),
        (11520, "3 h 12 min"),
        (86400 * 3, "3 d"),
        (-1, "0 ms"),
        (None, "–"),
    ],
)
def test_durations_are_told_with_what_matters(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize("kind", ["rate", "seconds", "count"])
@pytest.mark.parametrize("highest", [0.0007, 0.001, 0.02, 0.4, 1, 3, 5, 700])
def test_no_two_lines_of_a_chart_have_the_same_text(kind: str, highest: float) -> None:
    series = Series("waiting", "is-ready", [0.0, highest])
    chart = Chart("Depth", kind, datetime(2026, 11, 27, tzinfo=UTC), timedelta(minutes=1), (series,))
    told = re.findall(r'text-anchor="end">([^<]*)</text>', drawn(chart))
    heights = told[:-1] if ":" in told[-1] else told
    assert len(set(heights)) == len(heights), heights


def test_bars_of_the_time_line_lie_within_it() -> None:
    now = datetime.now(UTC)
    task = task_pb2.Task(status=task_pb2.TASK_STATUS_RUNNING)
    task.submitted_at.FromDatetime(now - timedelta(seconds=10))
    for number, (began, ended) in enumerate([(-12.0, -9.0), (-5.0, -5.0), (-1.0, None)]):
        run = task.runs.add(run_number=number, status=task_pb2.RUN_STATUS_RUNNING)
        run.started_at.FromDatetime(now + timedelta(seconds=began))
        if ended is not None:
            run.finished_at.FromDatetime(now + timedelta(seconds=ended))
    line = bars_of(task, now)
    assert line is not None
    assert [(bar.left >= 0 and bar.left + bar.width <= WIDTH) for bar in line.bars] == [True] * 3


def test_a_tree_is_drawn_whatever_its_parents_are() -> None:
    """Also for a task that is its own parent, or two that are each other's."""
    tasks = [task_pb2.Task(task_id=own, parent_id=parent) for own, parent in
             (("a", ""), ("b", "a"), ("c", "b"), ("d", "gone"), ("e", "e"))]  # fmt: skip
    assert [(node.task.task_id, node.depth) for node in ordered(tasks)] == [
        ("a", 0), ("b", 1), ("c", 2), ("d", 0), ("e", 0)]  # fmt: skip
    circle = [task_pb2.Task(task_id=own, parent_id=parent) for own, parent in (("a", "b"), ("b", "a"))]
    assert list(ordered(circle)) == [], "a circle has no root; drawing it ends"


def test_a_trend_is_what_ended_in_each_half_minute() -> None:
    request = request_of("mail", 1_000_017.5)
    assert (request.since.seconds, request.until.seconds) == (1_000_000 - 900, 1_000_000)
    answer = admin.GetStatsResponse()
    for seconds, completed, failed in (
        (-900, 60, 0),
        (-890, 30, 30),
        (-10, 15, 15),
        (0, 99, 0),
        (-910, 99, 0),
    ):
        answer.points.add(at=Timestamp(seconds=1_000_000 + seconds), completed=completed, failed=failed)
    trend = trend_of(request, answer)
    assert (trend.ended[0], trend.failed[0]) == (4.0, 1.0)
    assert (trend.ended[-1], trend.failed[-1]) == (1.0, 0.5)
    assert not any(trend.ended[1:-1])
    shown = spark(trend)
    assert 'aria-label="1.0/s now, 4.0/s at the most"' in shown
    assert 'points="0.0,1.0 ' in shown, "the highest place touches the top"
    assert "svg" not in spark(Trend((0.0, 0.0), (0.0, 0.0)))


@pytest.mark.parametrize(
    ("look", "kind", "text"),
    [
        ("laid out", "json", "{\n  "),
        ("raw", "text", '{"a":1.10}'),
        ("hex", "binary", "00000000  7b 22 61 22 3a"),
    ],
)
def test_a_payload_is_shown_as_it_is_asked_for(look: str, kind: str, text: str) -> None:
    shown = json_view.content(b'{"a":1.10}', "", "", look)
    assert shown.kind == kind
    assert html.unescape(shown.html).startswith(text)
