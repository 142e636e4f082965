"""A scrape as Prometheus does it, read with its client library."""

import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.support.process import Process


@dataclass(frozen=True, slots=True)
class Scrape:
    """All samples of one scrape, and the families that it named."""

    types: dict[str, str]
    samples: list[Sample]

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples of a name whose labels include these; 0 if there is none."""
        return sum(
            sample.value
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def labels(self, name: str, label: str) -> set[str]:
        """The values of a label."""
        return {sample.labels[label] for sample in self.samples if sample.name == name}


def scrape(url: str) -> Scrape:
    """Read a page of metrics."""
    with urllib.request.urlopen(url, timeout=60) as page:
        return parsed(page.read().decode())


def parsed(text: str) -> Scrape:
    """A page of metrics, as its families and samples."""
    families = list(text_string_to_metric_families(text))
    return Scrape(
        {family.name: family.type for family in families},
        [sample for family in families for sample in _plain(family.samples)],
    )


def url_of(process: Process) -> str:
    """Where a broker or worker serves its metrics."""
    return process.wait_for(r"(?:broker|worker|gateway) metrics: (\S+)")[1]


def _plain(samples: Iterable[Sample]) -> Iterable[Sample]:
    return (sample for sample in samples if not sample.name.endswith("_created"))
