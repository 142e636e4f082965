"""What a run found: figures by key, and the targets they are held against."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """One promise: a figure (or a ratio made of figures) and its bound."""

    name: str
    value: Callable[[Figures], float | None]
    bound: float
    at_least: bool

    def met(self, value: float) -> bool:
        """Return True if a value keeps the promise."""
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target held against a run's figures."""

    target: str
    bound: str
    value: float
    met: bool


def _figure(*path: str) -> Callable[[Figures], float | None]:
    def find(figures: Figures) -> float | None:
        found: Any = figures
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, int | float) else None

    return find


def _ratio(name: str) -> Callable[[Figures], float | None]:
    return _figure("ratios", name)


TARGETS: Final = (
    Target("broker_cycle_no_handoff / sql_cycle", _ratio("broker_cycle_no_handoff/sql_cycle"), 0.9, True),
    Target("broker_cycle / sql_cycle", _ratio("broker_cycle/sql_cycle"), 1.5, True),
    Target("broker_cycle_headers / broker_cycle", _ratio("broker_cycle_headers/broker_cycle"), 0.9, True),
    Target("sdk_cycle / sql_cycle", _ratio("sdk_cycle/sql_cycle"), 1.0, True),
    Target("sdk_cycle / broker_cycle", _ratio("sdk_cycle/broker_cycle"), 0.8, True),
    Target("sdk_cycle / best peer", _ratio("sdk_cycle/best_peer"), 1.3, True),
    Target("sdk_cycle / celery", _ratio("sdk_cycle/celery"), 60.0, True),
    Target("sdk_single_cycle / sdk_cycle", _ratio("sdk_single_cycle/sdk_cycle"), 0.4, True),
    Target("sdk_cycle with tokens / without", _ratio("sdk_cycle_tokens/sdk_cycle_nothing"), 0.9, True),
    Target("sdk_cycle with metrics / without", _ratio("sdk_cycle_metrics/sdk_cycle_nothing"), 0.9, True),
    Target(
        "single sends with tokens / without",
        _ratio("sdk_single_cycle_tokens/sdk_single_cycle_nothing"),
        0.9,
        True,
    ),
    Target(
        "single sends with metrics / without",
        _ratio("sdk_single_cycle_metrics/sdk_single_cycle_nothing"),
        0.9,
        True,
    ),
    Target("keyed tasks / plain", _ratio("flow_keyed/flow_plain"), 0.5, True),
    Target("fairly shared tasks / plain", _ratio("flow_fair/flow_plain"), 0.5, True),
    Target("rated tasks / plain", _ratio("flow_rated/flow_plain"), 0.5, True),
    Target("latency_p50_ms", _figure("latency_p50_ms"), 2.5, False),
    Target("latency_p99_ms", _figure("latency_p99_ms"), 8.0, False),
    Target("idle_latency_p50_ms", _figure("idle_latency_p50_ms"), 2.5, False),
    Target("backlog_ratio", _figure("backlog_ratio"), 1.1, False),
    Target("pinned_ratio", _figure("pinned_ratio"), 1.5, False),
    Target("held_ratio", _figure("held_ratio"), 1.5, False),
    Target("broker_rss_mb idle", _figure("broker_rss_mb", "idle"), 150.0, False),
    Target("broker_rss_mb backlog_1m", _figure("broker_rss_mb", "backlog_1m"), 150.0, False),
    Target("broker_rss_mb workers_1000", _figure("broker_rss_mb", "workers_1000"), 150.0, False),
    Target("CPU of idle workers (% of a core)", _figure("idle_workers_cpu_percent"), 10.0, False),
    Target("statements/s, many idle workers over few", _ratio("idle_workers_statements"), 1.5, False),
)


@dataclass(slots=True)
class Results:
    """Collected figures, and the measurements that failed."""

    figures: Figures = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def add(self, **figures: Any) -> None:
        """Note figures; those that are mappings join what is there under the same key."""
        for key, value in figures.items():
            if isinstance(value, dict) and isinstance(self.figures.get(key), dict):
                self.figures[key] |= value
            else:
                self.figures[key] = value

    def verdicts(self) -> list[Verdict]:
        """Every target whose figure was measured."""
        found = []
        for target in TARGETS:
            value = target.value(self.figures)
            if value is not None:
                bound = f"{'>=' if target.at_least else '<='} {target.bound:g}"
                found.append(Verdict(target.name, bound, value, target.met(value)))
        return found
