"""Counts and histograms of ours as metric families of prometheus-client. Import it only to serve metrics."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from hyrex.runtime.histogram import Histogram

__all__ = ["counter", "gauge", "histogram"]

MICROSECONDS: Final = 1e-6
Labels = Sequence[str]


def counter(
    name: str, text: str, labels: Labels, values: Iterable[tuple[Labels, int]]
) -> CounterMetricFamily:
    """A family of counters; the name is without `_total`. Values of equal labels are added up."""
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in _summed(values).items():
        family.add_metric(key, value)
    return family


def gauge(name: str, text: str, labels: Labels, values: Iterable[tuple[Labels, float]]) -> GaugeMetricFamily:
    """A family of gauges. Values of equal labels are added up."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in _summed(values).items():
        family.add_metric(key, value)
    return family


def histogram(
    name: str,
    text: str,
    labels: Labels,
    values: Iterable[tuple[Labels, Histogram]],
    unit: float = MICROSECONDS,
) -> HistogramMetricFamily:
    """A family of histograms, each with labels of its own; `unit` is what their values are multiplied by."""
    family = HistogramMetricFamily(name, text, labels=labels)
    for key, found in values:
        family.add_metric(list(key), _buckets(found, unit), sum_value=found.total * unit)
    return family


def _buckets(found: Histogram, unit: float) -> list[tuple[str, float]]:
    counts, below, buckets = list(found.counts), 0, list[tuple[str, float]]()
    for bound, count in zip([*[f"{each * unit:g}" for each in found.bounds], "+Inf"], counts, strict=True):
        below += count
        buckets.append((bound, below))
    return buckets


def _summed(values: Iterable[tuple[Labels, float]]) -> Mapping[tuple[str, ...], float]:
    sums: dict[tuple[str, ...], float] = {}
    for labels, value in values:
        key = tuple(labels)
        sums[key] = sums.get(key, 0) + value
    return sums
