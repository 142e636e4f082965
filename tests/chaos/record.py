"""What the journal says, sorted by task: executions with their ends, and disturbances with theirs."""

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

FOREVER: Final = float("inf")


@dataclass(slots=True)
class Execution:
    """One time that user code of a run began. `how` is "" where nothing was written at its end."""

    task: str
    name: str
    run: int
    pid: int
    worker: str
    began: float
    ended: float = FOREVER
    how: str = ""
    key: str = ""
    """Its concurrency key, if it has one."""

    @property
    def age_s(self) -> float:
        """How long ago it began."""
        return time.monotonic() - self.began


@dataclass(slots=True)
class Disturbance:
    """Something that the storm did to a victim, from `began` until it was healed."""

    kind: str
    victim: str
    began: float
    ended: float
    pid: int | None = None
    promoted: float | None = None
    """When the standby of a pair of servers took over."""
    answered: float | None = None
    """When a send was acknowledged for the first time after the database was back."""
    name: str = ""

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return self.ended - self.began


@dataclass(slots=True)
class Record:
    """The journal, digested."""

    acknowledged: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """task -> the kinds under which producers know it"""
    sent: dict[str, float] = field(default_factory=dict)
    """task -> when it was first acknowledged"""
    keys: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """idempotency key -> acknowledged tasks"""
    cancelled: dict[str, float] = field(default_factory=dict)
    refused: list[tuple[str, str]] = field(default_factory=list)
    """(task, holder) of sends that a key refused; the task is "" where nobody could have stored it."""
    executions: dict[str, list[Execution]] = field(default_factory=lambda: defaultdict(list))
    disturbances: list[Disturbance] = field(default_factory=list)

    def running(self) -> list[Execution]:
        """Executions of which no end is written."""
        return [each for all_of in self.executions.values() for each in all_of if not each.how]


def digest(events: Iterable[dict[str, Any]]) -> Record:
    """Sort the events of a journal."""
    record = Record()
    running: dict[tuple[str, int, int], Execution] = {}
    open_ended: dict[str, Disturbance] = {}
    unanswered: list[Disturbance] = []
    for event in events:
        at = event["at"]
        match event["event"]:
            case "acknowledged":
                record.acknowledged[event["task"]].add(event["kind"])
                record.sent.setdefault(event["task"], at)
                while unanswered:
                    unanswered.pop().answered = at
                if "key" in event:
                    record.keys[event["key"]].add(event["task"])
            case "cancelled":
                record.cancelled[event["task"]] = at
            case "refused":
                record.refused.append((event["task"], event["holder"]))
            case "start":
                begun = Execution(
                    event["task"], event["name"], event["run"], event["pid"], event["worker"], at
                )
                begun.key = event["key"]
                record.executions[begun.task].append(begun)
                running[begun.task, begun.run, begun.pid] = begun
            case "end":
                done = running.pop((event["task"], event["run"], event["pid"]))
                done.ended, done.how = at, event["how"]
            case "disturbed":
                lasting = "seconds" in event or event["kind"].startswith("postgres")
                found = Disturbance(
                    event["kind"], event["victim"], at, FOREVER if lasting else at, event.get("pid")
                )
                found.name = event.get("name", "")
                record.disturbances.append(found)
                if lasting:
                    open_ended[_thing(event["kind"], event["victim"])] = found
            case "promoted":
                open_ended[event["victim"]].promoted = at
            case "healed":
                if event["victim"] in open_ended:
                    healed = open_ended.pop(event["victim"])
                    healed.ended = at
                    unanswered += [healed] if healed.victim == "postgres" else []
    for each in record.executions.values():
        each.sort(key=lambda execution: execution.began)
    return record


def _thing(kind: str, victim: str) -> str:
    """What the storm calls the disturbed thing when it is healed."""
    number = victim.rpartition("-")[2]
    match kind:
        case "link_silence":
            return f"link-{number}"
        case "database_link_silence":
            return f"database-link-{number}"
        case _:
            return victim
