"""A soak as one SVG: what was held, what waited and what took how long, over the time of the run."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Final

from markupsafe import Markup

from benchmarks.latency import percentile
from benchmarks.soak.record import Record
from benchmarks.soak.slopes import slope
from hyrex.dashboard.render import charts

MOST_STEPS: Final = 120
COLUMNS: Final = 2
TITLE_HEIGHT: Final = 20.0
LEGEND_HEIGHT: Final = 14.0
GAP: Final = 22.0
LOOKS: Final = ("#2f6fde", "#d9480f", "#2b8a3e", "#9c36b5", "#e8a200", "#0b7285", "#868e96", "#c2255c")
STYLE: Final = Markup(
    "text{{font:11px system-ui,sans-serif;fill:#333}}.title{{font-weight:600;font-size:13px}}"
    ".grid{{stroke:#ddd}}.line{{fill:none;stroke-width:1.4}}.hint{{fill:transparent}}"
    ".restart{{stroke:#c92a2a;stroke-dasharray:3 3}}{}"
)

Values = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Line:
    """One series of a panel, with what the legend adds to its name."""

    name: str
    values: Values
    note: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart. `kind` as in hyrex.dashboard.render.charts."""

    title: str
    kind: str
    lines: tuple[Line, ...]

    @property
    def height(self) -> float:
        """With title and legend."""
        return TITLE_HEIGHT + charts.HEIGHT + LEGEND_HEIGHT * len(self.lines)


def picture(record: Record) -> str:
    """The whole picture."""
    panels = list(_panels(record))
    rows = [panels[at : at + COLUMNS] for at in range(0, len(panels), COLUMNS)]
    parts, top = [], GAP
    for row in rows:
        for column, panel in enumerate(row):
            parts.append(_placed(record, panel, column * (charts.WIDTH + GAP) + GAP, top))
        top += max(panel.height for panel in row) + GAP
    width = COLUMNS * (charts.WIDTH + GAP) + GAP
    looks = "".join(f".look-{n}{{stroke:{look};fill:{look}}}" for n, look in enumerate(LOOKS))
    # A line's own look fills as well: only its stroke is wanted.
    style = STYLE.format(looks) + Markup(".line{fill:none!important}")
    head = Markup('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {:g} {:g}"><style>{}</style>').format(
        width, top, style
    )
    ground = Markup('<rect width="{:g}" height="{:g}" fill="#fff"/>').format(width, top)
    return str(head + ground + Markup("").join(parts) + Markup("</svg>\n"))


def _placed(record: Record, panel: Panel, left: float, top: float) -> Markup:
    series = tuple(charts.Series(line.name, f"look-{n}", line.values) for n, line in enumerate(panel.lines))
    step = timedelta(seconds=record.seconds / _steps(record))
    chart = charts.Chart(panel.title, panel.kind, record.began, step, series)
    inner = Markup('<svg y="{:g}" width="{:g}" height="{:g}">{}{}</svg>').format(
        TITLE_HEIGHT, charts.WIDTH, charts.HEIGHT, charts.drawn(chart), Markup("").join(_restarts(record))
    )
    title = Markup('<text class="title" x="0" y="12">{}</text>').format(panel.title)
    legend = Markup("").join(_legend(chart, panel))
    return Markup('<g transform="translate({:g} {:g})">{}{}{}</g>').format(left, top, title, inner, legend)


def _restarts(record: Record) -> Iterator[Markup]:
    for at, what in record.restarts:
        x = charts.LEFT + at / max(record.seconds, 1e-9) * charts.PLOT_WIDTH
        yield Markup(
            '<line class="restart" x1="{0:.1f}" x2="{0:.1f}" y1="{1:g}" y2="{2:g}"><title>{3}</title></line>'
        ).format(x, charts.TOP, charts.TOP + charts.PLOT_HEIGHT, what)


def _legend(chart: charts.Chart, panel: Panel) -> Iterator[Markup]:
    for n, (line, series) in enumerate(zip(panel.lines, chart.series, strict=True)):
        y = TITLE_HEIGHT + charts.HEIGHT + LEGEND_HEIGHT * n + 10
        text = f"{line.name}: {chart.latest(series)}" + (f", {line.note}" if line.note else "")
        yield Markup('<rect class="look-{}" x="{:g}" y="{:g}" width="9" height="9"/>').format(
            n, charts.LEFT, y - 9
        )
        yield Markup('<text x="{:g}" y="{:g}">{}</text>').format(charts.LEFT + 14, y, text)


def _panels(record: Record) -> Iterator[Panel]:
    yield Panel("Memory of brokers and sender, MB", "count", tuple(
        _line(record, f"{name} rss", name, "MB") for name in ("broker-0", "broker-1", "sender")
    ))  # fmt: skip
    yield Panel("Memory of workers and Postgres, MB", "count", (
        _line(record, "worker-0 stream rss", "stream process of worker 0", "MB"),
        _line(record, "worker-0 child-0 rss", "first child of worker 0", "MB"),
        _line(record, "worker-0 launcher rss", "launcher of worker 0", "MB"),
        _line(record, "postgres private", "Postgres, unshared, all processes", "MB"),
    ))  # fmt: skip
    for what, title in (("fds", "Open files"), ("threads", "Threads")):
        yield Panel(title, "count", tuple(
            _line(record, f"{name} {what}", name)
            for name in ("broker-0", "broker-1", "worker-0 stream", "worker-0 child-0", "sender")
        ))  # fmt: skip
    yield Panel("Dead rows", "count", (
        _line(record, "dead rows live tables", "ready, delayed, lease, sessions"),
        _line(record, "dead rows other tables", "all other tables"),
    ))  # fmt: skip
    yield Panel("Sizes, MB", "count", (
        _line(record, "live tables", "live tables", "MB"),
        _line(record, "kept tables", "kept tables", "MB"),
        _line(record, "wal", "write-ahead log since the beginning", "MB", from_zero=True),
    ))  # fmt: skip
    for kind, title in (
        ("send", "A send() takes"),
        ("start", "From send to start"),
        ("result", "From send to result"),
    ):
        yield Panel(title, "seconds", tuple(
            Line(f"p{percent}", _times(record, kind, percent)) for percent in (50, 99)
        ))  # fmt: skip
    yield Panel("What waits and runs", "count", tuple(
        _line(record, name, name) for name in ("ready", "delayed", "running")
    ))  # fmt: skip
    yield Panel("Tasks stored in a second", "rate", (Line("tasks", _rates(record)),))
    yield Panel("The whole machine, % of all cores", "count", (_line(record, "machine cpu", "CPU"),))


def _line(record: Record, series: str, name: str, unit: str = "", *, from_zero: bool = False) -> Line:
    points = record.values(series)
    base = points[0][1] if points and from_zero else 0.0
    values = _stepped(record, points, lambda found: statistics.median(found) - base)
    found = slope(record.series(series))
    note = f"{found.per_hour:+.1f} {unit}".rstrip() + "/h" if found is not None else ""
    return Line(name, values, note)


def _steps(record: Record) -> int:
    """No more than there are samples, so that lines have no holes."""
    return min(MOST_STEPS, max(len(record.samples) // 2, 1))


def _stepped(
    record: Record, points: Sequence[tuple[float, float]], of: Callable[[list[float]], float]
) -> list[float | None]:
    """One value for each step; None where nothing was read."""
    bins: list[list[float]] = [[] for _ in range(_steps(record))]
    for at, value in points:
        bins[min(int(at / max(record.seconds, 1e-9) * len(bins)), len(bins) - 1)].append(value)
    return [of(found) if found else None for found in bins]


def _times(record: Record, kind: str, percent: int) -> list[float | None]:
    points = [(at, taken) for at, times in record.times_ms for taken in times[kind]]
    return _stepped(record, points, lambda found: percentile(found, percent) / 1000)


def _rates(record: Record) -> list[float | None]:
    points = record.values("tasks")
    grown = [
        (late, (more - less) / (late - early))
        for (early, less), (late, more) in pairwise(points)
        if late > early
    ]
    return _stepped(record, grown, statistics.mean)
