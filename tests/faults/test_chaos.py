"""A short storm; `scripts/chaos` runs long ones."""

from pathlib import Path

import pytest

from tests.chaos.__main__ import run
from tests.chaos.cluster import Size


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_short_storm_breaks_no_promise(tmp_path: Path) -> None:
    verdict = run(Size(workers=2, producers=1), seed=11, seconds=20, gap_s=1.5, directory=tmp_path)
    assert verdict.good, "\n".join(verdict.complaints)
    assert verdict.acknowledged > 20
    assert sum(verdict.kills.values()) >= 5
