"""Plays scenarios for languages, a few at a time, and says how each ended."""

import asyncio
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from tests.conformance.agent_process import AgentFailed
from tests.conformance.cluster import Cluster
from tests.conformance.languages import BuildFailed, Language
from tests.conformance.stage import Stage
from tests.conformance.steps import NotOffered, Unexpected, play
from tests.conformance.tap import Falsify

SCENARIOS: Final = Path(__file__).with_name("scenarios")
AT_ONCE: Final = 4
SCENARIO_WITHIN_S: Final = 90.0
SETTLED_WITHIN_S: Final = 3.0


class Verdict(StrEnum):
    """How a scenario ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One file of scenarios/: its name is the file's."""

    name: str
    about: str
    steps: Sequence[dict[str, Any]]
    own_brokers: int = 0
    token: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """One scenario in one language."""

    language: str
    scenario: str
    verdict: Verdict
    text: str = ""
    seconds: float = 0.0


def load_scenarios(names: Iterable[str] = ()) -> list[Scenario]:
    """All scenarios by name, or those named. Raises: KeyError for a name that does not exist."""
    every = {path.stem: path for path in sorted(SCENARIOS.glob("*.json"))}
    return [_load(name, every[name]) for name in (list(names) or every)]


def _load(name: str, path: Path) -> Scenario:
    read = json.loads(path.read_text())
    return Scenario(name, read["about"], read["steps"], read.get("own_brokers", 0), read.get("token", ""))


def _missing_behind_a_gateway(scenario: Scenario) -> str:
    """Why a scenario is not for clients of a gateway; empty if it is."""
    if scenario.own_brokers or scenario.token:
        return "it is about brokers"
    if any(step["do"] == "list" for step in scenario.steps):
        return "a gateway has no lists"
    return ""


class Suite:
    """Plays scenarios on one cluster."""

    def __init__(self, cluster: Cluster, falsify: Falsify | None = None, check_rules: bool = True) -> None:
        """`falsify` breaks a rule on purpose, to see that it is noticed."""
        self._cluster = cluster
        self._falsify = falsify
        self._check_rules = check_rules
        self._places = asyncio.Semaphore(AT_ONCE)

    async def run(self, languages: Sequence[Language], scenarios: Sequence[Scenario]) -> list[Result]:
        """Every scenario in every language; a language that is absent is skipped, by name."""
        of_each = await asyncio.gather(*(self._language(one, scenarios) for one in languages))
        return [result for results in of_each for result in results]

    async def _language(self, language: Language, scenarios: Sequence[Scenario]) -> list[Result]:
        if language.absence:
            return [Result(language.name, s.name, Verdict.SKIPPED, language.absence) for s in scenarios]
        try:
            async with self._places:
                await language.build()
        except BuildFailed as error:
            text = f"its agent cannot be built: {error}"
            return [Result(language.name, s.name, Verdict.FAILED, text) for s in scenarios]
        return list(await asyncio.gather(*(self.play(language, scenario) for scenario in scenarios)))

    async def play(self, language: Language, scenario: Scenario) -> Result:
        """One scenario in one language."""
        async with self._places:
            began = time.monotonic()
            verdict, text = await self._verdict(language, scenario)
            return Result(language.name, scenario.name, verdict, text, time.monotonic() - began)

    async def _verdict(self, language: Language, scenario: Scenario) -> tuple[Verdict, str]:
        if self._cluster.second_url and (missing := _missing_behind_a_gateway(scenario)):
            return Verdict.SKIPPED, missing
        stage = await Stage.set(self._cluster, language, scenario.own_brokers, scenario.token, self._falsify)
        at = "the start"
        try:
            async with asyncio.timeout(SCENARIO_WITHIN_S):
                for number, step in enumerate(scenario.steps, 1):
                    at = f"step {number} ({step.get('why') or step['do']})"
                    await play(stage, step)
            broken = await self._broken_in_the_end(stage)
            return (Verdict.FAILED, "; ".join(broken[:5])) if broken else (Verdict.PASSED, "")
        except NotOffered as error:
            return Verdict.SKIPPED, str(error)
        except (Unexpected, AgentFailed) as error:
            also = "".join(f"\nrule broken: {one}" for one in self._broken(stage)[:5])
            return Verdict.FAILED, f"{at}: {error}{also}"
        except TimeoutError:
            return Verdict.FAILED, f"{at}: more than {SCENARIO_WITHIN_S:.0f} s have passed in all"
        finally:
            await stage.clear()

    def _broken(self, stage: Stage) -> list[str]:
        if not self._check_rules:
            return []
        return [broken for door in stage.doors.values() for broken in door.tap.rules.broken]

    async def _broken_in_the_end(self, stage: Stage) -> list[str]:
        """Answers that nobody asked for; rules broken, after what is under way has had time to arrive."""
        if unasked := [one for door in stage.doors.values() for one in door.tap.unasked()]:
            return unasked
        if not self._check_rules:
            return []
        deadline = time.monotonic() + SETTLED_WITHIN_S
        while undelivered := [one for door in stage.doors.values() for one in door.tap.rules.undelivered()]:
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.02)
        return self._broken(stage) + undelivered
