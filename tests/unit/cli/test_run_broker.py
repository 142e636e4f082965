"""What `hyrex run-broker` is told reaches the broker that it becomes."""

import inspect
from pathlib import Path
from typing import Any, Final

import pytest

from hyrex.cli import run_broker
from hyrex_broker.__main__ import configure
from hyrex_broker.config import BrokerConfig

NAMES: Final = {
    "lease_duration": "lease_duration_s", "drain_timeout": "drain_timeout_s",
    "payload_limit": "payload_limit_bytes", "schema": "database_schema",
}  # fmt: skip
GIVEN: Final[dict[str, Any]] = {
    "database_url": "postgresql://u:secret@localhost/hyrex",
    "read_database_url": "postgresql://u:secret@standby/hyrex", "outbox_url": "postgresql://u:secret@shop/shop",
    "name": "b", "token": "a,b", "insecure": True,
    "lease_duration": 2.5, "drain_timeout": 3.0, "processes": 3, "tls_cert": Path("cert"),
    "tls_key": Path("key"), "tls_client_ca": Path("ca"), "payload_limit": 100, "retention_days": 2,
    "dead_letter_days": 3,
    "schema": "other", "metrics": "127.0.0.1:9000", "log_format": "json",
}  # fmt: skip
# Of another form in the broker, given by a file, or of a process of its own.
APART: Final = {"listen", "database_url_file", "token_file", "dashboard"}


def become(monkeypatch: pytest.MonkeyPatch, **given: Any) -> BrokerConfig:
    """The settings of the broker that the command becomes."""
    made: list[BrokerConfig] = []

    def broker(arguments: list[str], secrets: dict[str, str | None]) -> None:
        made.append(configure(arguments, {key: value for key, value in secrets.items() if value}))

    monkeypatch.setattr(run_broker, "_become_broker", broker)
    run_broker.run_broker(**given)
    return made[0]


def test_every_option_is_tried_here() -> None:
    assert GIVEN.keys() | APART == {*inspect.signature(run_broker.run_broker).parameters}


def test_every_option_reaches_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    found = become(monkeypatch, **GIVEN, listen="127.0.0.2:7000").model_dump()
    assert (found["host"], found["port"]) == ("127.0.0.2", 7000)
    said = GIVEN | {"metrics": ("127.0.0.1", 9000, ())}
    assert {option: found[NAMES.get(option, option)] for option in said} == said


def test_files_with_secrets_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HYREX_DATABASE_URL", raising=False)
    url, tokens = tmp_path / "url", tmp_path / "tokens"
    url.write_text("postgresql://localhost/filed")
    tokens.write_text("filed")
    found = become(monkeypatch, database_url_file=url, token_file=tokens)
    assert (found.database_url, found.token) == ("postgresql://localhost/filed", "filed")
