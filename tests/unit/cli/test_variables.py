"""Variables of the environment that are probably misspelt are told, by whatever runs for long."""

import os
from typing import Any

import pytest
from typer.testing import CliRunner

from hyrex.cli.program import program
from hyrex.cli.variables import misspelt

SAID = "nothing reads HYREX_BROKR_URL; did you mean HYREX_BROKER_URL?"


@pytest.mark.parametrize(
    "command",
    [
        ["run-worker", "module:app", "--prefetch", "x"],
        ["run-broker"],
        ["gateway", "--cells", "*=grpc://127.0.0.1:1"],
        ["dashboard"],
        ["dev", "--app-dir", "/nowhere"],
    ],
)
def test_what_runs_for_long_tells_it_at_its_start(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def become(*_: Any) -> None:
        raise SystemExit(0)

    monkeypatch.setattr(os, "execve", become)
    monkeypatch.setenv("HYREX_BROKR_URL", "grpc://localhost:1")
    assert CliRunner().invoke(program, command).output.count(SAID) == 1


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("HYREX_DATABASE", "HYREX_DATABASE_URL"),
        ("HYREX_LOGLEVEL", "HYREX_LOG_LEVEL"),
        ("HYREX_TOKEN", None),
        ("HYREX_SHOP", None),  # of nobody's here
        ("HYREX_BROKER_PORT", None),  # Kubernetes makes these of a service called hyrex-broker
        ("HYREX_BROKER_PORT_50051_TCP_ADDR", None),
        ("HYREX_BROKER_SERVICE_PORT_GRPC", None),
    ],
)
def test_only_what_resembles_one_of_ours_is(
    name: str, near: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "x")
    assert misspelt().get(name) == near
