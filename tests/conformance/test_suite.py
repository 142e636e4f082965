"""The suite's own parts: what it skips, how it compares, what its table says."""

import json
from pathlib import Path

import pytest

from tests.conformance.languages import LANGUAGES, Language, printed_by
from tests.conformance.matching import differences, filled, found, uuid7
from tests.conformance.stage import Stage
from tests.conformance.steps import AGENT_OPS, DRIVER_OPS
from tests.conformance.suite import Result, Scenario, Suite, Verdict, load_scenarios
from tests.conformance.table import as_json, as_markdown, as_text
from tests.support.eventually import eventually
from tests.support.trees import is_gone


async def test_a_language_without_its_toolchain_is_skipped_by_name() -> None:
    absent = Language("cobol", ("no-such-compiler",))
    suite = Suite(cluster=None)  # type: ignore[arg-type]  # nothing is started
    results = await suite.run([absent], [Scenario("success", "", [])])
    assert [(one.verdict, one.text) for one in results] == [
        (Verdict.SKIPPED, "no-such-compiler not installed")
    ]
    assert "skipped cobol: no-such-compiler not installed" in as_text(results)


def test_a_failure_is_counted_and_told() -> None:
    results = [Result("go", "success", Verdict.FAILED, "boom"), Result("go", "drain", Verdict.PASSED)]
    assert json.loads(as_json(results)) == {"languages": {"go": {"passed": 1, "failed": 1, "skipped": 0}}}
    assert "FAILED go success: boom" in as_text(results)
    assert "| `drain` | passed |" in as_markdown(results)


@pytest.mark.parametrize("scenario", load_scenarios(), ids=lambda scenario: scenario.name)
def test_every_step_of_every_scenario_is_known(scenario: Scenario) -> None:
    steps = [inner for step in scenario.steps for inner in (step, *step.get("meanwhile", ()))]
    assert {step["do"] for step in steps} <= AGENT_OPS | DRIVER_OPS.keys()
    assert scenario.about.endswith(".")


def test_expected_objects_name_only_what_matters() -> None:
    assert not differences({"a": [{"b": 1}]}, {"a": [{"b": 1.0, "c": 2}], "d": 3})
    assert differences({"a": True}, {"a": 1}) == ["a should be True, is 1"]
    assert differences({"a": {"b": 1}}, {"a": {}}) == ["a.b is absent"]
    assert differences([1], [1, 2])
    assert differences({"$exactly": {"a": 1}}, {"a": 1, "b": 2})
    assert not differences({"$same_items": [2, 1, 1]}, [1, 2, 1])


def test_variables_are_filled_in_by_kind() -> None:
    made = filled({"x": "$n", "y": "n is ${n}", "z": [{"$repeat": 2, "of": "$i"}]}, {"n": 5})
    assert made == {"x": 5, "y": "n is 5", "z": [0, 1]}
    assert found({"a": [{"b": 1}, {"b": 2}]}, "a.*.b") == [1, 2]
    assert uuid7(0)[14] == "7"


def test_every_language_has_an_agent_to_start() -> None:
    for language in LANGUAGES.values():
        assert language.agent
        assert language.command or (language.home / "agent").exists()
    assert Path(LANGUAGES["go"].agent[0]).name == "agent"
    assert Stage.__doc__


async def test_a_build_that_takes_too_long_is_ended_with_its_compilers() -> None:
    build = ["sh", "-c", "sleep 600 & echo compiler $!; wait"]
    status, printed = await printed_by(build, within_s=2)
    assert status is None
    said, pid = printed.split()
    assert said == "compiler"
    eventually(lambda: is_gone(int(pid)))
