"""What a parent of several brokers is told reaches each of them, but what differs among them."""

import os
from pathlib import Path
from typing import Any, Final

import pytest

from hyrex_broker import processes
from hyrex_broker.__main__ import configure
from hyrex_broker.config import FLAGS, BrokerConfig

GIVEN: Final[dict[str, Any]] = {
    "database_url": "postgresql://u:secret@localhost/hyrex", "host": "::1", "port": 7000, "name": "b",
    "token": "a,b", "lease_duration_s": 2.5, "drain_timeout_s": 3.0, "processes": 3,
    "tls_cert": Path("cert"), "tls_key": Path("key"), "tls_client_ca": Path("ca"), "token_file": None,
    "reuse_port": True, "payload_limit_bytes": 100, "retention_days": 2, "insecure": True,
    "dead_letter_days": 3,
    "private_database": True, "metrics": ("::1", 9000, ("a.example",)), "log_format": "json", "parent_pid": 1,
    "database_schema": "other", "read_database_url": "postgresql://u:secret@localhost:5433/hyrex",
    "outbox_url": "postgresql://u:secret@shop/shop",
}  # fmt: skip
# A token is read from its file, if there is one: then it is not told again.
IN_A_FILE: Final = {"token_file"}


def own(config: BrokerConfig, number: int) -> BrokerConfig:
    """What a process of the parent makes of its command and environment."""
    flags = processes._command(config, number)[4:]
    return configure(flags, processes._environment(config))


def test_every_setting_is_tried_here_with_a_value_of_its_own() -> None:
    assert GIVEN.keys() == BrokerConfig.model_fields.keys() == FLAGS.keys()
    usual = BrokerConfig(database_url="postgresql://localhost/x")
    assert {name for name, value in GIVEN.items() if getattr(usual, name) == value} == IN_A_FILE


@pytest.mark.parametrize("number", [0, 2])
def test_every_setting_reaches_each_process(number: int) -> None:
    found = own(BrokerConfig(**GIVEN), number)
    differs = {
        "name": f"b-{number}", "processes": 1, "parent_pid": os.getpid(),
        "metrics": ("::1", 9000 + number, ("a.example",)),
    }  # fmt: skip
    assert found.model_dump() == GIVEN | differs


def test_usual_settings_reach_each_process_as_they_are() -> None:
    usual = BrokerConfig(database_url="postgresql://localhost/x", processes=2)
    differs = {"name": f"{usual.name}-1", "processes": 1, "reuse_port": True, "parent_pid": os.getpid()}
    assert own(usual, 1).model_dump() == usual.model_dump() | differs


def test_the_file_of_tokens_is_named_and_its_tokens_are_not_told(tmp_path: Path) -> None:
    place = tmp_path / "tokens"
    place.write_text("from-file")
    config = BrokerConfig(**GIVEN | {"token": "old", "token_file": place})
    found = own(config, 0)
    assert (found.token_file, found.token) == (place, "from-file")


def test_no_secret_is_among_the_flags() -> None:
    command = " ".join(processes._command(BrokerConfig(**GIVEN), 0))
    assert "secret" not in command
    assert "a,b" not in command


@pytest.mark.parametrize("failures", [0, 5, 5000])
def test_a_process_is_started_again_however_many_have_failed(failures: int) -> None:
    assert 0.5 <= processes._pause_s(failures) <= 5.0


def no_room(*_: object) -> None:
    raise BlockingIOError("fork: resource temporarily unavailable")


def test_a_process_for_which_there_is_no_room_now_is_started_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not an error of the parent, which would end the others."""
    monkeypatch.setattr(processes, "_start", no_room)
    children: dict[int, processes._Child] = {}
    due: dict[float, tuple[int, int]] = {}
    processes._restart(BrokerConfig(**GIVEN), children, due, 2, 7)
    assert not children
    assert [*due.values()] == [(2, 8)]
