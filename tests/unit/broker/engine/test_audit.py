"""Looks at payloads are counted, and kept while the database is away, to a bound."""

from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.engine import audit
from hyrex_broker.engine.audit import Audit
from hyrex_broker.storage.audit import Deed


class Away:
    """A database that goes away in the middle of a statement: meanwhile, others look."""

    def __init__(self) -> None:
        self.meanwhile: list[str] = []
        self.stored: list[Deed] = []
        self.audit = Audit(self)

    async def record(self, deeds: Sequence[Deed]) -> None:
        if not self.meanwhile:
            self.stored += deeds
            return
        for who in self.meanwhile:
            self.audit.looked(who, "task.get", ["late"])
        self.meanwhile = []
        raise StorageUnavailable("away")

    def counts(self) -> dict[str, tuple[str, str]]:
        return {deed.who: (deed.details["count"], deed.details["tasks"]) for deed in self.stored}


async def test_looks_that_could_not_be_stored_are_added_to_those_of_meanwhile() -> None:
    away = Away()
    away.audit.looked("a", "task.get", ["1", "2"])
    away.audit.looked("a", "task.get", ["2"])
    away.meanwhile = ["a", "b"]
    await away.audit.flush()
    assert away.stored == []
    await away.audit.flush()
    assert away.counts() == {"a": ("3", "late 1 2"), "b": ("1", "late")}


async def test_who_goes_on_looking_looks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of the dashboard that stays open asks every two seconds, and had an entry every five."""
    now = 1000.0
    monkeypatch.setattr(audit, "time", SimpleNamespace(monotonic=lambda: now))
    away = Away()
    for _ in range(10):
        away.audit.looked("a", "task.list", ["1", "2"])
        await away.audit.flush()
        now += audit.ONE_LOOK_S
    assert away.counts() == {"a": ("2", "1 2")}
    away.stored.clear()
    away.audit.looked("a", "task.list", ["2", "3"])
    away.audit.looked("a", "task.get", ["2"])
    away.audit.looked("b", "task.list", ["2"])
    await away.audit.flush()
    assert [(deed.who, deed.action, deed.details["tasks"]) for deed in away.stored] == [
        ("a", "task.list", "3"),
        ("a", "task.get", "2"),
        ("b", "task.list", "2"),
    ]
    away.stored.clear()
    now += audit.ONE_LOOK_S + 1
    away.audit.looked("a", "task.list", ["2"])
    await away.audit.flush()
    assert away.counts() == {"a": ("1", "2")}


async def test_what_is_remembered_of_looks_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MOST_REMEMBERED", 3)
    away = Away()
    away.audit.looked("a", "task.list", ["1", "2", "3", "4"])
    await away.audit.flush()
    away.audit.looked("a", "task.list", ["4", "1"])
    await away.audit.flush()
    assert [deed.details["tasks"] for deed in away.stored] == ["1 2 3 4", "1"]


async def test_looks_for_which_there_is_no_room_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_MOST_KINDS", 2)
    away = Away()
    away.audit.looked("a", "task.get", ["1"])
    away.meanwhile = ["b", "c", "d"]
    await away.audit.flush()
    await away.audit.flush()
    assert set(away.counts()) == {"b", "c"}
