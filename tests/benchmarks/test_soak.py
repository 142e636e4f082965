"""A soak runs, and its verdict tells growth from noise."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.soak.record import Record
from benchmarks.soak.samples import Reading
from benchmarks.soak.slopes import growth_ratio, slope
from benchmarks.soak.verdict import Finding, findings, good

ROOT = Path(__file__).resolve().parents[2]
EVERY_S = 10
HOUR = range(0, 3600 + EVERY_S, EVERY_S)


def sawtooth(at: int) -> float:
    """Rows that die until a vacuum comes."""
    return float(at * 5 % 5000)


def recorded(name: str, values: dict[int, Reading], minutes: float = 60) -> Record:
    record = Record(minutes, 100)
    record.samples = [(at, {name: reading}) for at, reading in values.items()]
    return record


def of_name(found: list[Finding], name: str) -> Finding:
    return next(each for each in found if each.name == name)


def test_a_leak_has_its_slope_whatever_the_beginning_and_outliers_were() -> None:
    values = {at: 60 + at / 3600 * 12 for at in HOUR}
    values |= {at: values[at] - 30 for at in HOUR if at < 600}  # caches fill
    values |= {at: values[at] + 200 for at in HOUR if at % 200 == 0}  # now and then something large
    found = slope([(at, Reading(value, 7)) for at, value in values.items()])
    assert found is not None
    assert found.per_hour == pytest.approx(12, rel=0.02)


def test_a_sawtooth_has_no_slope_of_note() -> None:
    found = slope([(at, Reading(sawtooth(at))) for at in HOUR])
    assert found is not None
    assert abs(found.per_hour) < 1500


def test_a_restarted_process_is_measured_over_its_longest_life() -> None:
    """Each life begins low: taken together they would seem to shrink."""
    lives = {at: Reading(80 + at / 360, 1 if at < 1200 else 2) for at in HOUR}
    found = slope(list(lives.items()))
    assert found is not None
    assert found.seconds == pytest.approx(0.75 * 2400, abs=2 * EVERY_S)
    assert found.per_hour == pytest.approx(10, rel=0.01)


@pytest.mark.parametrize(("grown_mb", "judgement"), [(5, "met"), (20, "MISSED")])
def test_memory_that_grows_beyond_its_bound_misses_it(grown_mb: int, judgement: str) -> None:
    record = recorded("broker-0 rss", {at: Reading(60 + grown_mb * at / 3600, 3) for at in HOUR})
    found = findings(record)
    assert of_name(found, "broker-0 rss").judgement == judgement
    assert good(record, found) == (judgement == "met")


@pytest.mark.parametrize(
    ("life_min", "flat_from_min", "judgement"),
    [(28, 31, "too short"), (80, 31, "met"), (80, 80, "MISSED"), (60, 60, "MISSED")],
)
def test_garbage_that_waits_for_its_collection_is_not_taken_for_a_leak(
    life_min: int, flat_from_min: int, judgement: str
) -> None:
    """A broker with five waits a second grows by 14.8 MB an hour until its first collection, and then not."""
    grown = {at: min(at / 60, flat_from_min) / 60 * 14.8 for at in range(0, life_min * 60, EVERY_S)}
    record = recorded("broker-1 rss", {at: Reading(75 + mb, 3) for at, mb in grown.items()}, life_min)
    found = findings(record)
    assert of_name(found, "broker-1 rss").judgement == judgement
    assert good(record, found) == (judgement != "MISSED")


def test_what_is_no_broker_has_no_such_garbage() -> None:
    record = recorded("worker-0 stream rss", {at: Reading(60 + 10 * at / 3600, 3) for at in HOUR})
    assert of_name(findings(record), "worker-0 stream rss").judgement == "MISSED"


def test_a_short_run_is_not_held_against_slopes_of_an_hour() -> None:
    record = recorded("broker-0 rss", {at: Reading(60.0 + at, 3) for at in range(10)}, minutes=0.2)
    assert of_name(findings(record), "broker-0 rss").judgement == "too short"


def test_a_task_that_needs_more_and_more_log_is_seen_although_the_rate_falls() -> None:
    tasks = [(float(at), 100.0 * at - at * at / 100) for at in HOUR]
    flat = [(at, count * 1.5) for at, count in tasks]
    assert growth_ratio(flat, tasks) == pytest.approx(1)
    more = [(at, count * (1.5 + at / 3600)) for at, count in tasks]
    ratio = growth_ratio(more, tasks)
    assert ratio is not None
    assert ratio > 1.5


def test_latencies_of_the_last_tenth_are_held_against_the_first() -> None:
    record = recorded("broker-0 rss", {at: Reading(60, 3) for at in HOUR})
    slower = [(float(at), {"send": [2.0 + 4 * at / 3600], "start": [3.0], "result": []}) for at in HOUR]
    record.times_ms = slower
    found = findings(record)
    assert of_name(found, "send p50 ms").judgement == "MISSED"
    assert of_name(found, "start p50 ms").judgement == "met"


@pytest.mark.parametrize("name", ["lost", "recorded twice", "acknowledged and not stored"])
def test_a_single_lost_task_misses_however_short_the_run_was(name: str) -> None:
    record = recorded("broker-0 rss", {at: Reading(60, 3) for at in range(10)}, minutes=0.2)
    record.ends = {name: 1}
    assert not good(record, findings(record))


@pytest.mark.timeout(240)
def test_a_soak_of_seconds_restarts_its_brokers_loses_nothing_and_draws_its_picture(tmp_path: Path) -> None:
    figures, drawn = tmp_path / "soak.json", tmp_path / "soak.svg"
    command = [sys.executable, "-m", "benchmarks.soak", "--minutes", "0.1", "--rate", "40"]
    command += ["--json", str(figures), "--picture", str(drawn)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=220)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(figures.read_text())
    assert [each["what"] for each in told["restarts"]] == ["broker-0 restarted", "broker-1 restarted"]
    assert told["ends"]["stored"] >= told["ends"]["acknowledged"] > 0
    assert told["ends"]["lost"] == told["ends"]["recorded twice"] == 0
    assert {"broker-1 rss", "worker-0 stream fds", "dead rows live tables", "wal"} <= told["series"].keys()
    assert {"send", "start", "result"} <= told["latency_ms"].keys()
    assert {"lost", "recorded twice"} <= {each["name"] for each in told["findings"]}
    root = ElementTree.parse(drawn).getroot()
    assert len(root.findall("{http://www.w3.org/2000/svg}g")) == 12
