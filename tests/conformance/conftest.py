"""The suite under pytest: what was selected is played once, a few at a time; each test looks at its own."""

from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import pytest

from tests.conformance.cluster import Cluster
from tests.conformance.languages import LANGUAGES
from tests.conformance.suite import Result, Suite, load_scenarios
from tests.support.postgres import copied_database, run_apart

T = TypeVar("T")
Played = dict[tuple[str, str], Result]


def selected(session: pytest.Session) -> tuple[list[str], list[str]]:
    """Languages and scenarios of the collected tests."""
    pairs = [
        (str(item.callspec.params["language"]), str(item.callspec.params["scenario"]))
        for item in session.items
        if isinstance(item, pytest.Function) and item.originalname == "test_scenario_passes"
    ]
    return list(dict.fromkeys(one for one, _ in pairs)), list(dict.fromkeys(one for _, one in pairs))


async def with_cluster(database_url: str, use: Callable[[Cluster], Awaitable[T]], second_url: str = "") -> T:
    """Give a cluster to `use`, and end it."""
    cluster = Cluster(database_url, second_url)
    try:
        return await use(cluster)
    finally:
        await cluster.end()


@pytest.fixture(scope="session")
def conformance_database(postgres_url: str, template_database: str) -> Iterator[str]:
    """A migrated database for the whole suite."""
    with copied_database(postgres_url, template_database, "hyrex_conformance") as url:
        yield url


@pytest.fixture(scope="session")
def played(request: pytest.FixtureRequest, conformance_database: str) -> Played:
    """Every selected scenario in every selected language, played."""
    languages, scenarios = selected(request.session)

    async def play(cluster: Cluster) -> list[Result]:
        return await Suite(cluster).run([LANGUAGES[one] for one in languages], load_scenarios(scenarios))

    results = run_apart(with_cluster(conformance_database, play))
    return {(result.language, result.scenario): result for result in results}
