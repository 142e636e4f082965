"""What brokers of an earlier version would break, so that it is refused until none of them is left (rule 21).

To add a feature: a member of Feature, and a line in `needed_by` (of a submitted task's terms), or
`await gate.require(Feature.X)` where something else asks for it. tests/faults/test_mixed_versions.py wants a
line too. The first use is stored, so that no broker that lacks the feature begins later.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from hyrex_broker.domain.errors import FeatureNotReady
from hyrex_broker.domain.model import Terms
from hyrex_broker.domain.schedules import ScheduleOptions


class Feature(StrEnum):
    """What a broker says of itself in its row. The names are stored."""

    EXPIRY = "expiry"
    KEYS = "concurrency keys"
    RATES = "rates"
    FAIR_KEYS = "fair keys"
    OUTSIDE = "calls from outside"
    WORKFLOWS = "workflows"
    KEYS_OF_SCHEDULES = "keys of schedules"


FEATURES: Final = tuple(Feature)


def needed_by(terms: Terms) -> Iterator[Feature]:
    """What brokers must know that have to do with tasks of these terms, whatever their keys."""
    extras = terms.extras
    if extras is None:
        return
    if extras.expires_in_ms is not None:
        yield Feature.EXPIRY
    if extras.is_outside:
        yield Feature.OUTSIDE


def needed_by_schedule(options: ScheduleOptions) -> Iterator[Feature]:
    """What brokers must know that store tasks of a schedule."""
    if options.expires_in_ms is not None:
        yield Feature.EXPIRY
    if options.has_keys:
        yield Feature.KEYS_OF_SCHEDULES


@dataclass(frozen=True, slots=True)
class OlderBroker:
    """A broker that lacks something which this one knows."""

    name: str
    version: str
    knows: frozenset[str]


Marks = Callable[[Sequence[Feature]], Awaitable[Sequence[OlderBroker]]]
"""Stores that features are used, or returns the brokers that lack one. Raises StorageUnavailable."""


async def _nobody_lacks_it(features: Sequence[Feature]) -> Sequence[OlderBroker]:
    return ()


class FeatureGate:
    """Knows which features every broker of the cluster has."""

    def __init__(self) -> None:
        """Open, until something else is learnt."""
        self._older: Sequence[OlderBroker] = ()
        self._used: frozenset[Feature] = frozenset()
        self.mark: Marks = _nobody_lacks_it

    def learn(self, older: Sequence[OlderBroker]) -> None:
        """Note which other brokers lack something now."""
        self._older = older

    async def use(self, features: Iterable[Feature]) -> FeatureNotReady | None:
        """Use these features; why that cannot be now, or None. Raises StorageUnavailable: the first use of
        each is stored."""
        wanted = [*features]
        fresh = [feature for feature in wanted if feature not in self._used]
        if fresh and self.refusal(fresh) is None:
            older = await self.mark(fresh)
            if older:
                self.learn(older)
            else:
                self._used |= {*fresh}
        return self.refusal(wanted)

    def refusal(self, features: Iterable[Feature]) -> FeatureNotReady | None:
        """Why these features cannot be used now; None if they can. `use` what can be."""
        if not self._older:
            return None
        for feature in features:
            for each in self._older:
                if feature not in each.knows:
                    return FeatureNotReady(feature, each.name, each.version)
        return None

    async def require(self, *features: Feature) -> None:
        """Use these features. Raises FeatureNotReady if that cannot be now, StorageUnavailable."""
        error = await self.use(features)
        if error is not None:
            raise error
