"""A short storm on a synchronous pair; `scripts/chaos --ha` runs long ones."""

from pathlib import Path

import pytest

from hyrex_broker.embedded import EmbeddedPostgres
from tests.chaos.cluster import Size
from tests.chaos.ha import run_each
from tests.chaos.pair import copier_of
from tests.chaos.witness import Fault

FAULTS = (Fault("primary_killed", fenced=False), Fault("primary_stopped"))
LONG_LEASE_S = 60
"""So that no run may be repeated, however slow the machine is."""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_failovers_of_a_synchronous_pair_lose_nothing_and_restart_nobody(tmp_path: Path) -> None:
    if not copier_of(EmbeddedPostgres()).exists():
        pytest.skip("these programs of Postgres lack pg_basebackup")
    size = Size(brokers=2, workers=1, producers=1, lease_s=LONG_LEASE_S)
    found = run_each(size, 7, tmp_path, synchronous=True, faults=FAULTS, calm_s=1.0)
    assert found.verdict.good, "\n".join(found.verdict.complaints)
    assert found.restarts_needed == 0
    assert found.verdict.acknowledged > 20
    assert [each.promoted for each in found.failovers] == [True, True]
    assert all(each.runs_s is not None for each in found.failovers)
