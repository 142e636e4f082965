"""The table at the end of a run, in plain text."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.figures import Results


def table(results: Results) -> str:
    """Figures, CPU per task, targets, and what failed or was skipped."""
    return "\n".join(_lines(results))


def _lines(results: Results) -> Iterator[str]:
    plain = {
        key: value for key, value in results.figures.items() if key not in ("cpu_us_per_task", "machine")
    }
    machine = results.figures.get("machine", {})
    yield from _section("machine", [(key, _text(value)) for key, value in machine.items()])
    yield from _section("figure", [(key, _text(value)) for key, value in plain.items()])
    spent = results.figures.get("cpu_us_per_task", {})
    if spent:
        yield from _section("CPU us per task", [(key, _text(value)) for key, value in spent.items()])
    verdicts = [(v.target, f"{v.value:10.3g}   {v.bound:>8}   {'met' if v.met else 'MISSED'}")
                for v in results.verdicts()]  # fmt: skip
    yield from _section("target", verdicts)
    yield from _section("skipped", list(results.skipped.items()))
    yield from _section("FAILED", [(name, text.splitlines()[0]) for name, text in results.failures.items()])


def _section(title: str, rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    if rows:
        yield f"\n{title}\n{'-' * len(title)}"
        width = max(len(name) for name, _ in rows)
        yield from (f"{name:<{width}}  {text}" for name, text in rows)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(one)}" for key, one in value.items())
    if isinstance(value, float):
        return f"{value:,.1f}" if value >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
