"""Rolling to this version and back under load: nothing is lost, nothing runs twice.

HYREX_OLDER_REF names the commit to roll from; else it is the newest release.
"""

from collections import Counter
from pathlib import Path

import pytest

from hyrex_broker.embedded import EmbeddedPostgres
from tests.rolling import older as rolling_older
from tests.rolling.fleet import BROKERS, WORKERS, Fleet
from tests.rolling.older import THIS, Version, older
from tests.support.eventually import eventually
from tests.support.pairs import value
from tests.support.postgres import migrate_now
from tests.support.process import ROOT
from tests.support.processes import Processes

AT_EACH_STEP = 5
LIVE = "select " + " + ".join(
    f"(select count(*) from hyrex.{name})" for name in ("ready", "delayed", "lease")
)


@pytest.fixture(scope="module")
def before() -> Version:
    return older()


def roll(fleet: Fleet, version: Version) -> None:
    """Brokers first, then workers, one by one, with sends between."""
    for number in range(BROKERS):
        fleet.replace_broker(number, version)
        fleet.until_sent(AT_EACH_STEP)
    for number in range(WORKERS):
        fleet.replace_worker(number, version)
        fleet.until_sent(AT_EACH_STEP)


def served_from(url: str) -> int:
    """The schema that a broker must know to be served by this database."""
    return int(value(url, "select max(serves_from) from hyrex.schema_version"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_is_lost_and_nothing_runs_twice_on_the_way_to_this_version_and_back(
    before: Version, processes: Processes, tmp_path: Path
) -> None:
    with EmbeddedPostgres(durable=False) as server:
        fleet = Fleet(processes, server.url, tmp_path / "runs")
        if not before.is_release:
            # The first migration is edited in place until a release has it: no later one makes up for that.
            migrate_now(server.url)
        fleet.start(before, (before, THIS))
        fleet.until_sent(AT_EACH_STEP)
        known = int(value(server.url, "select max(number) from hyrex.schema_version"))
        roll(fleet, THIS)
        if served_from(server.url) <= known:
            roll(fleet, before)
        else:
            is_refused(fleet, before)
        acknowledged = fleet.stop_senders()
        eventually(lambda: value(server.url, LIVE) == 0)
        judge(fleet, server.url, acknowledged)


def is_refused(fleet: Fleet, version: Version) -> None:
    """A broker that the schema does not serve any more says so and ends; the others go on."""
    fleet.brokers[0].terminate()
    refused = fleet.broker_start(version, 0)
    assert refused.wait() == 4
    assert "upgrade it" in refused.output
    fleet.until_sent(AT_EACH_STEP)


def judge(fleet: Fleet, url: str, acknowledged: set[str]) -> None:
    """Compare what senders, tasks and the database say."""
    completed = "select count(distinct task_id) from hyrex.task_run where final and outcome = 2"
    # Released (7): given back by a worker that left, never begun.
    otherwise = "select count(*) from hyrex.task_run where outcome not in (2, 7)"
    tasks = int(value(url, "select count(*) from hyrex.task"))
    assert tasks >= len(acknowledged) > 0
    assert int(value(url, completed)) == tasks
    assert int(value(url, otherwise)) == 0
    executed = Counter(fleet.executed())
    assert not acknowledged - executed.keys()
    assert [task for task, times in executed.items() if times > 1] == []


def test_a_version_whose_installation_takes_too_long_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this checkout is without git")
    monkeypatch.setattr(rolling_older, "_WITHIN_S", 0.001)
    with pytest.raises(pytest.skip.Exception, match=r"cannot be installed here within 0\.001 s"):
        rolling_older._make(tmp_path / "home", "HEAD")
