"""What every request uses."""

from dataclasses import dataclass

from starlette.datastructures import QueryParams

from hyrex.dashboard.access.entry import Entry
from hyrex.dashboard.brokers import Brokers
from hyrex.dashboard.cluster import ClusterView
from hyrex.dashboard.options import DashboardOptions
from hyrex.dashboard.pages.page import Visit
from hyrex.dashboard.render.environment import Templates
from hyrex.dashboard.trends import Trends


@dataclass(frozen=True, slots=True)
class Shared:
    """The parts of the application."""

    options: DashboardOptions
    brokers: Brokers
    cluster: ClusterView
    entry: Entry
    templates: Templates
    trends: Trends

    def visit(self, token: str | None, query: QueryParams) -> Visit:
        """A visit in the name of a token."""
        return Visit(token, query, self.brokers.as_seen_by(token), self.cluster, self.trends)
