"""The results of a run as a table of language x scenario, and as numbers."""

import json
from collections import Counter
from collections.abc import Sequence
from textwrap import wrap
from typing import Final

from tests.conformance.suite import Result, Verdict, load_scenarios

_WIDTH: Final = 100  # of a line of a page (scripts/pages.py)
_NO_SCENARIO: Final = (
    "Retention, by outcome and by queue, has no scenario: its terms are settings of brokers and of"
    " `UpdateQueue`, which operators call with `hyrex queue` and the dashboard and none of these clients has,"
    " and a task that is gone is to them as one that never was (TASK_NOT_FOUND, which `replay` plays)."
)
MARKS = {Verdict.PASSED: "passed", Verdict.FAILED: "FAILED", Verdict.SKIPPED: "skipped"}


def _columns(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(result.language for result in results))


def _rows(results: Sequence[Result]) -> dict[str, dict[str, Result]]:
    rows: dict[str, dict[str, Result]] = {}
    for result in results:
        rows.setdefault(result.scenario, {})[result.language] = result
    return dict(sorted(rows.items()))


def as_text(results: Sequence[Result]) -> str:
    """For a terminal: the table, then why something failed or was skipped."""
    columns = _columns(results)
    lines = [f"{'':26}" + "".join(f"{name:>10}" for name in columns)]
    for scenario, row in _rows(results).items():
        cells = "".join(f"{MARKS[row[name].verdict]:>10}" for name in columns)
        lines.append(f"{scenario:26}{cells}")
    lines += [""] + [f"{name}: {_numbers_text(results, name)}" for name in columns]
    slowest = sorted(results, key=lambda result: -result.seconds)[:6]
    lines += ["slowest: " + ", ".join(f"{r.language} {r.scenario} {r.seconds:.1f} s" for r in slowest)]
    absent = {(r.language, r.text) for r in results if r.verdict is Verdict.SKIPPED}
    lines += [f"skipped {language}: {text}" for language, text in sorted(absent)]
    for (language, text), scenarios in _failures(results).items():
        named = scenarios[0] if len(scenarios) == 1 else f"{len(scenarios)} scenarios"
        lines += ["", f"FAILED {language} {named}: {text}"]
    return "\n".join(lines)


def _failures(results: Sequence[Result]) -> dict[tuple[str, str], list[str]]:
    """Scenarios by language and by what went wrong: a failed build is told once."""
    failures: dict[tuple[str, str], list[str]] = {}
    for result in results:
        if result.verdict is Verdict.FAILED:
            failures.setdefault((result.language, result.text), []).append(result.scenario)
    return failures


def as_markdown(results: Sequence[Result]) -> str:
    """The page docs/conformance.md."""
    columns = _columns(results)
    lines = [
        "# Conformance",
        "",
        "How each client library did in the suite of `tests/conformance`. A scenario is data, and is played",
        "against real brokers; `tests/conformance/AGENT.md` says how to add a language.",
        "`scripts/conformance --table docs/conformance.md` writes this page.",
        "",
        *wrap(_NO_SCENARIO, _WIDTH),
        "",
        *(f"- **{name}**: {_numbers_text(results, name)}" for name in columns),
        "",
        f"| scenario | {' | '.join(columns)} |",
        "|---|" + "---|" * len(columns),
    ]
    rows = _rows(results)
    for scenario, row in rows.items():
        lines.append(f"| `{scenario}` | {' | '.join(row[name].verdict for name in columns)} |")
    about = {scenario.name: scenario.about for scenario in load_scenarios()}
    lines += ["", "What each scenario shows:", ""]
    for scenario in rows:
        lines += wrap(f"- `{scenario}`: {about[scenario]}", _WIDTH, subsequent_indent="  ")
    return "\n".join([*lines, ""])


def numbers(results: Sequence[Result], language: str) -> dict[str, int]:
    """How many scenarios of a language ended how."""
    counted = Counter(result.verdict for result in results if result.language == language)
    return {verdict.value: counted[verdict] for verdict in Verdict}


def _numbers_text(results: Sequence[Result], language: str) -> str:
    return ", ".join(f"{count} {name}" for name, count in numbers(results, language).items())


def as_json(results: Sequence[Result]) -> str:
    """For programs: {"languages": {"go": {"passed": n, "failed": n, "skipped": n}, ...}}."""
    return json.dumps({"languages": {name: numbers(results, name) for name in _columns(results)}}, indent=2)
