"""What a new lane costs: the queues of a cluster may be many."""

from collections.abc import Collection, Mapping
from typing import Any, cast

import pytest

from hyrex_broker.domain.model import BrokerId, LaneId
from hyrex_broker.engine.lane_directory import Directory
from hyrex_broker.engine.sessions.registry import Sessions
from hyrex_broker.engine.sessions.session import WorkerProfile
from hyrex_broker.storage.lanes import Lane, LaneStore
from hyrex_broker.storage.sessions import SessionStore


class Interned:
    """Lanes as a database would number them."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], Lane] = {}

    async def intern(self, pairs: Collection[tuple[str, str]], most_new: int) -> list[Lane]:
        for queue, name, *_ in sorted(pairs):
            self.known.setdefault((queue, name), Lane(LaneId(len(self.known) + 1), queue, name))
        return [self.known[pair] for pair in ((queue, name) for queue, name, *_ in pairs)]


def served(profile: WorkerProfile) -> Directory:
    """A directory whose lanes some sessions of this profile may run."""
    directory = Directory(cast(LaneStore, Interned()))
    sessions = Sessions(cast(SessionStore, None), directory, BrokerId(1))
    sessions._profiles["any"] = profile
    return directory


async def test_a_new_lane_is_looked_at_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    subscribe = WorkerProfile.subscribe

    def counted(self: WorkerProfile, names: Mapping[LaneId, tuple[str, str]]) -> Any:
        looks.append(len(names))
        return subscribe(self, names)

    monkeypatch.setattr(WorkerProfile, "subscribe", counted)
    profile = WorkerProfile(("mail-*",), {"send": "sync"})
    directory = served(profile)
    for number in range(50):
        await directory.intern([(f"mail-{number}", "send"), (f"mail-{number}", "other")])
        await directory.intern([(f"mail-{number}", "send")])
    assert looks == [2] * 50
    assert profile.lanes == {lane: "sync" for lane, (_, name) in directory.names.items() if name == "send"}


async def test_lanes_of_other_queues_are_not_served() -> None:
    profile = WorkerProfile(("mail",), {"send": "sync"})
    directory = served(profile)
    await directory.intern([("mail", "send"), ("mails", "send")])
    assert [directory.names[lane] for lane in profile.lanes] == [("mail", "send")]
