"""What a soak recorded: samples over time, the times of sends and waits, and how it ended."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from benchmarks.latency import percentile
from benchmarks.soak.samples import Reading, Sample


@dataclass(slots=True)
class Record:
    """Times are in seconds since the load began."""

    minutes: float
    rate: float
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    samples: list[tuple[float, Sample]] = field(default_factory=list)
    times_ms: list[tuple[float, dict[str, list[float]]]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    restarts: list[tuple[float, str]] = field(default_factory=list)
    ends: dict[str, int] = field(default_factory=dict)
    """After the load: lost, recorded twice, ..."""
    complaints: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long the load lasted."""
        return self.samples[-1][0] if self.samples else 0.0

    def names(self) -> list[str]:
        """Every series, in order."""
        return sorted({name for _, sample in self.samples for name in sample})

    def series(self, name: str) -> list[tuple[float, Reading]]:
        """The readings of one series."""
        return [(at, sample[name]) for at, sample in self.samples if name in sample]

    def values(self, name: str) -> list[tuple[float, float]]:
        """The same without the processes that they are of."""
        return [(at, reading.value) for at, reading in self.series(name)]

    def milliseconds(self, kind: str, from_s: float, until_s: float) -> list[float]:
        """Every time that was taken between two moments."""
        return [taken for at, times in self.times_ms if from_s < at <= until_s for taken in times[kind]]

    def figures(self) -> Iterator[tuple[str, Any]]:
        """For the JSON file."""
        yield "began", self.began.isoformat(timespec="seconds")
        yield "minutes", round(self.seconds / 60, 2)
        yield "rate", self.rate
        yield "counts", self.counts
        yield "restarts", [{"at_s": round(at), "what": what} for at, what in self.restarts]
        yield "ends", self.ends
        yield (
            "latency_ms",
            {
                kind: {f"p{percent}": percentile(taken, percent) for percent in (50, 99)}
                for kind in (self.times_ms[0][1] if self.times_ms else ())
                if (taken := self.milliseconds(kind, 0, self.seconds))
            },
        )
        yield "complaints", self.complaints
        yield (
            "series",
            {
                name: [
                    [round(at, 1), round(reading.value, 3), reading.of] for at, reading in self.series(name)
                ]
                for name in self.names()
            },
        )
