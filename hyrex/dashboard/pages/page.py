"""A page, and the visit that asks for it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from starlette.datastructures import QueryParams

from hyrex.dashboard.brokers import VisitorCalls
from hyrex.dashboard.cluster import ClusterView, Snapshot
from hyrex.dashboard.trends import Trends

LONGEST_NAME: Final = 255


class Missing(Exception):
    """There is no such thing, or the person may not see it; the text says so."""


class FormRefused(Exception):
    """A form cannot be understood or must not be sent; the text says why."""


@dataclass(frozen=True, slots=True)
class Visit:
    """Who looks at what."""

    token: str | None
    query: QueryParams
    calls: VisitorCalls
    cluster: ClusterView
    trends: Trends

    async def snapshot(self) -> Snapshot:
        """The cluster as this person sees it. Raises: CallFailed."""
        return await self.cluster.seen_by(self.token)

    def wanted(self, key: str, most: int = LONGEST_NAME) -> str:
        """A value of the query that must be there. Raises: Missing."""
        found = self.query.get(key, "")
        if not found or len(found.encode("utf-8", "surrogatepass")) > most or not _is_text(found):
            raise Missing(f"the address names no {key}")
        return found


@dataclass(frozen=True, slots=True)
class Page:
    """A template and what it shows. `live`: the address that its live parts follow, empty for none."""

    template: str
    title: str
    screen: str
    values: Mapping[str, Any]
    live: str = ""


View: TypeAlias = Callable[[Visit], Awaitable[Page]]


def _is_text(value: str) -> bool:
    return value.isprintable() or value.encode("utf-8", "replace").decode() == value
