"""The fixtures give a real broker and a real worker, and say why when they cannot."""

from pathlib import Path

import pytest

from hyrex.errors import HyrexError
from hyrex.testing.live import LiveHyrex
from tests.unit.sdk.live_tasks import divide


def test_live_fixture_runs_a_task_on_a_real_worker(hyrex_live: LiveHyrex) -> None:
    hyrex_live.start_worker("tests.unit.sdk.live_tasks:app")
    handle = divide.send(7, 2)
    assert handle.result(30) == 3.5
    assert handle.task_runs[0].worker


def test_worker_that_cannot_start_shows_what_it_printed(hyrex_live: LiveHyrex, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nothing_like_this\n")
    with pytest.raises(HyrexError, match="nothing_like_this"):
        hyrex_live.start_worker("broken:app", cwd=tmp_path)
