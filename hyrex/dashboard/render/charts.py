"""Charts as SVG, drawn on the server: lines and areas over time, with what each step says on hover."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from markupsafe import Markup

from hyrex.dashboard.render.values import ABSENT, duration, number, rate

WIDTH: Final = 560.0
HEIGHT: Final = 132.0
LEFT: Final = 46.0
TOP: Final = 8.0
BOTTOM: Final = 18.0
PLOT_WIDTH: Final = WIDTH - LEFT - 2
PLOT_HEIGHT: Final = HEIGHT - TOP - BOTTOM


@dataclass(frozen=True, slots=True)
class Series:
    """One line. None: nothing is known of that step. `stacked`: an area on those before it."""

    name: str
    look: str
    values: Sequence[float | None]
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over the same steps. `kind`: rate, seconds or count."""

    title: str
    kind: str
    start: datetime
    step: timedelta
    series: tuple[Series, ...]

    @property
    def empty(self) -> bool:
        """True if there is nothing to be drawn."""
        return not any(value for each in self.series for value in each.values)

    def latest(self, series: Series) -> str:
        """The newest value that is known, in words."""
        known = next((value for value in reversed(series.values) if value is not None), None)
        return "–" if known is None else self.words(known)

    def words(self, value: float) -> str:
        """A value with its unit."""
        return TEXTS[self.kind](value)


@dataclass(frozen=True, slots=True)
class Trend:
    """Tasks per second that ended, step by step; and those of them that failed."""

    ended: tuple[float, ...]
    failed: tuple[float, ...]


SPARK_HEIGHT: Final = 20.0


def spark(trend: Trend | None) -> Markup:
    """A trend as a small picture without axes; nothing where none is known or nothing ended."""
    if trend is None or not any(trend.ended):
        return ABSENT
    most, count = max(trend.ended), len(trend.ended)

    def line(values: Sequence[float]) -> str:
        return " ".join(
            f"{at * 100 / (count - 1):.1f},{SPARK_HEIGHT - value / most * (SPARK_HEIGHT - 1):.1f}"
            for at, value in enumerate(values)
        )

    ended = line(trend.ended)
    parts = [Markup('<polygon points="{} 100,{:g} 0,{:g}"/>').format(ended, SPARK_HEIGHT, SPARK_HEIGHT)]
    parts.append(Markup('<polyline points="{}"/>').format(ended))
    if any(trend.failed):
        parts.append(Markup('<polyline class="is-failed" points="{}"/>').format(line(trend.failed)))
    words = f"{rate(trend.ended[-1])}/s now, {rate(most)}/s at the most"
    head = '<svg class="spark" viewBox="0 0 100 {:g}" preserveAspectRatio="none" role="img" aria-label="{}">'
    title = Markup("<title>{}</title>").format(words)
    return Markup(head).format(SPARK_HEIGHT, words) + title + Markup("").join(parts) + Markup("</svg>")


TEXTS: Final[dict[str, Callable[[float], str]]] = {
    "rate": lambda value: f"{rate(value)}/s",
    "seconds": duration,
    "count": number,
}


def drawn(chart: Chart) -> Markup:
    """The chart as SVG."""
    most = ceiling(max(_highest(chart), 1e-9))
    parts = [*_grid(chart, most), *_lines(chart, most), *_hints(chart), *_times(chart)]
    label = ", ".join(f"{each.name} {chart.latest(each)}" for each in chart.series)
    head = Markup('<svg class="chart" viewBox="0 0 {:g} {:g}" role="img" aria-label="{}: {}">').format(
        WIDTH, HEIGHT, chart.title, label
    )
    return head + Markup("").join(parts) + Markup("</svg>")


def ceiling(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, 50 ... that is no smaller."""
    size = 10.0 ** math.floor(math.log10(value))
    return next(step * size for step in (1, 2, 5, 10) if value <= step * size * 1.000001)


def _highest(chart: Chart) -> float:
    columns = zip(*(each.values for each in chart.series if each.stacked), strict=True)
    stacked = max((sum(value or 0.0 for value in column) for column in columns), default=0.0)
    lines = (value or 0.0 for each in chart.series if not each.stacked for value in each.values)
    return max(stacked, max(lines, default=0.0))


def _x(chart: Chart, at: float) -> float:
    count = max(len(chart.series[0].values) - 1, 1)
    return LEFT + at / count * PLOT_WIDTH


def _y(value: float, most: float) -> float:
    return TOP + (1 - value / most) * PLOT_HEIGHT


def _grid(chart: Chart, most: float) -> Iterator[Markup]:
    for share in (0.0, 0.5, 1.0):
        y = _y(most * share, most)
        yield Markup('<line class="grid" x1="{:g}" x2="{:g}" y1="{:.1f}" y2="{:.1f}"/>').format(
            LEFT, WIDTH, y, y
        )
        if chart.kind == "count" and not (most * share).is_integer():
            continue
        text = chart.words(most * share) if share else "0"
        yield Markup('<text x="{:g}" y="{:.1f}" text-anchor="end">{}</text>').format(LEFT - 6, y + 3.5, text)


def _lines(chart: Chart, most: float) -> Iterator[Markup]:
    below = [0.0] * len(chart.series[0].values)
    for each in chart.series:
        if not each.stacked:
            yield from _polylines(chart, each, most)
            continue
        above = [base + (value or 0.0) for base, value in zip(below, each.values, strict=True)]
        edge = [f"{_x(chart, at):.1f},{_y(value, most):.1f}" for at, value in enumerate(above)]
        floor = [f"{_x(chart, at):.1f},{_y(value, most):.1f}" for at, value in enumerate(below)]
        if any(each.values):
            points = " ".join([*edge, *reversed(floor)])
            yield Markup('<polygon class="area {}" points="{}"/>').format(each.look, points)
        below = above


def _polylines(chart: Chart, series: Series, most: float) -> Iterator[Markup]:
    """A line for each stretch of known values; a single known value is a dot."""
    stretch: list[str] = []
    for at, value in enumerate([*series.values, None]):
        if value is not None:
            stretch.append(f"{_x(chart, at):.1f},{_y(value, most):.1f}")
        elif len(stretch) == 1:
            x, _, y = stretch.pop().partition(",")
            yield Markup('<circle class="dot {}" cx="{}" cy="{}" r="1.6"/>').format(series.look, x, y)
        elif stretch:
            yield Markup('<polyline class="line {}" points="{}"/>').format(series.look, " ".join(stretch))
            stretch = []


def _hints(chart: Chart) -> Iterator[Markup]:
    count = len(chart.series[0].values)
    width = PLOT_WIDTH / max(count - 1, 1)
    for at in range(count):
        told = [
            f"{each.name} {chart.words(value)}"
            for each in chart.series
            if (value := each.values[at]) is not None
        ]
        if not any(each.values[at] for each in chart.series):
            continue
        moment = (chart.start + chart.step * at).astimezone(UTC).strftime("%d %b %H:%M:%S UTC")
        yield Markup(
            '<rect class="hint" x="{:.1f}" y="{:g}" width="{:.1f}" height="{:g}"><title>{}</title></rect>'
        ).format(_x(chart, at) - width / 2, TOP, width, PLOT_HEIGHT, f"{moment}\n" + "\n".join(told))


def _times(chart: Chart) -> Iterator[Markup]:
    count = len(chart.series[0].values)
    long = chart.step * count > timedelta(days=2)
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        at = share * (count - 1)
        moment = (chart.start + chart.step * at).astimezone(UTC)
        text = moment.strftime("%d %b" if long else "%H:%M")
        yield Markup('<text x="{:.1f}" y="{:g}" text-anchor="{}">{}</text>').format(
            _x(chart, at), HEIGHT - 4, anchor, text
        )
