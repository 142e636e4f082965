"""What importing costs, and what may import what beyond the contracts of import-linter."""

import subprocess
import sys
from functools import cache

import pytest

from tests.support.process import ROOT

HEAVY = (
    "grpc",
    "asyncpg",
    "hyrex_broker",
    "typer",
    "rich",
    "watchfiles",
    "uvloop",
    "google.protobuf",
    "asyncio",
)


@cache
def modules_after(code: str) -> frozenset[str]:
    """Names of the modules that are loaded once the code has run in a fresh Python."""
    program = f"{code}\nimport sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return frozenset(done.stdout.split())


@pytest.mark.parametrize("name", HEAVY)
def test_import_of_the_package_loads_nothing_heavy(name: str) -> None:
    assert name not in modules_after("import hyrex")


@pytest.mark.parametrize("name", ["grpc", "asyncpg", "hyrex_broker", "typer"])
def test_registering_tasks_needs_neither_network_nor_database(name: str) -> None:
    code = "import hyrex\nhy = hyrex.HyrexRegistry()\n@hy.task\ndef greet(name: str) -> str: return name"
    assert name not in modules_after(code)


@pytest.mark.parametrize("name", ["grpc", "asyncpg", "hyrex_broker", "rich", "watchfiles", "pydantic"])
def test_command_line_loads_what_is_heavy_only_on_demand(name: str) -> None:
    assert name not in modules_after("import hyrex.cli.program")


@pytest.mark.parametrize("name", ["hyrex", "asyncpg", "hyrex_broker.storage", "hyrex_broker.config"])
def test_embedded_postgres_knows_nothing_of_the_rest(name: str) -> None:
    assert name not in modules_after("import hyrex_broker.embedded")


def test_supervisor_of_postgres_runs_on_the_standard_library_alone() -> None:
    loaded = modules_after("import runpy; runpy.run_path('broker/hyrex_broker/embedded/supervisor.py')")
    assert not {name for name in loaded if name.split(".")[0] in ("hyrex_broker", "hyrex", "asyncpg")}
