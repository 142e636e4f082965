"""What commands print for people reads as the rest of what they print."""

import html
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from typer.testing import CliRunner

from hyrex.cli.errors import CommandError
from hyrex.cli.output import shown
from hyrex.cli.program import program
from hyrex.cli.queue import _rate_shown
from tests.support.process import ROOT


def test_the_next_time_of_a_rate_is_printed_as_other_times_are() -> None:
    at = datetime(2026, 11, 28, 9, 30, 1, 123456, UTC)
    queue = {"rate": "100/m", "burst": 5, "next_token": at}
    assert _rate_shown(queue) == f"100/m, burst 5, next at {shown(at)}"


def test_an_outbox_that_cannot_be_reached_says_what_to_set() -> None:
    command = ["outbox", "install", "--outbox-url", "postgresql://nobody@127.0.0.1:1/none"]
    with pytest.raises(CommandError, match="start it, or set --outbox-url or HYREX_OUTBOX_URL"):
        CliRunner().invoke(program, command, catch_exceptions=False)


def test_the_first_lines_that_an_empty_dashboard_shows_make_an_app_with_a_task() -> None:
    page = (ROOT / "hyrex/dashboard/templates/overview.html").read_text(encoding="utf-8")
    (code,) = re.findall(r"<code>(from hyrex import .*?)</code>", page, re.DOTALL)
    made: dict[str, Any] = {"__name__": "app"}
    exec(html.unescape(code), made)
    assert list(made["app"].tasks) == ["greet"]
