"""The rules of a worker's stream that can be seen on the wire (the list at the end of AGENT.md).

Each broken rule is a sentence in `broken`. What a worker has read cannot be known from outside, only
what was sent to it: so a heartbeat is compared with what had been sent two heartbeats earlier, and two
intervals before it was made. When that was is estimated: where this process or a cable stands still for a
moment, heartbeats come late, and several at once.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from hyrex.v1 import worker_service_pb2 as wire
from tests.support.columns import assigned, told_runs

PATIENCE_S: Final = 1.5  # a loaded machine's hiccup
_LOOK_BACK: Final = 6
_APART: Final = 0.9

COUNTED: Final = (
    "hellos", "resumed", "adopted", "revoked", "reports", "repeated_reports", "stale", "duplicate",
    "cancels", "drains", "goodbyes", "leaves", "broker_drains",
)  # fmt: skip


@dataclass
class SessionRecord:
    """What passed between one session and its brokers, over all its streams."""

    session_id: str
    assigned: dict[int, tuple[str, float]] = field(default_factory=dict)  # token -> (task, when sent)
    settled: dict[int, float] = field(default_factory=dict)  # token -> when acknowledged or revoked
    sequences: list[tuple[float, int]] = field(default_factory=list)  # (when sent, assignment sequence)
    unacknowledged: dict[int, frozenset[int]] = field(default_factory=dict)  # report id -> tokens
    heartbeat: int = 0
    receipt: int = 0  # the highest received_through of a heartbeat that was acknowledged
    beats: dict[int, int] = field(default_factory=dict)  # heartbeat -> its received_through
    read_until: float = 0.0  # what was sent before this moment has been read, as far as one can tell

    @property
    def receipted(self) -> bool:
        """True if the broker knows that everything sent so far was received."""
        return all(number <= self.receipt for _, number in self.sequences)


@dataclass
class Rules:
    """All sessions that were seen, what they did, and which rules they broke."""

    broken: list[str] = field(default_factory=list)
    counts: "Counter[str]" = field(default_factory=Counter)
    sessions: dict[str, SessionRecord] = field(default_factory=dict)
    headers: list[dict[str, str]] = field(default_factory=list)
    open_streams: int = 0
    timely: bool = True
    """Whether heartbeats are expected in time."""

    def stream(self) -> "StreamRules":
        """A Work stream begins."""
        self.open_streams += 1
        return StreamRules(self)

    def undelivered(self) -> list[str]:
        """Reports that no broker has acknowledged although a stream is open, as sentences."""
        return [
            f"reports {sorted(session.unacknowledged)} were never acknowledged"
            for session in self.sessions.values()
            if session.unacknowledged and self.open_streams
        ]

    def summary(self) -> dict[str, object]:
        """What a scenario's `wire` step looks at."""
        seen: dict[str, object] = {name: self.counts[name] for name in COUNTED}
        seen["receipted"] = all(session.receipted for session in self.sessions.values())
        return seen | {"broken": self.broken, "sessions": len(self.sessions), "headers": self.headers}


def made_at(arrivals: Sequence[float], interval_s: float) -> float:
    """When the newest heartbeat was made at the earliest, if one of them came without delay: a worker makes
    them about an interval apart."""
    steps = reversed(range(len(arrivals)))
    return min(at + step * _APART * interval_s for at, step in zip(arrivals, steps, strict=True))


class StreamRules:
    """One stream's part of it."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._hello: wire.Hello | None = None
        self._session: SessionRecord | None = None
        self._interval_s = 0.0
        self._beats: list[float] = []
        self._open = True

    def _break(self, text: str) -> None:
        self._rules.broken.append(text)

    def closed(self) -> None:
        """The stream is over."""
        if self._open:
            self._open = False
            self._rules.open_streams -= 1

    def from_worker(self, frame: wire.WorkRequest) -> None:
        """A frame on its way to the broker."""
        kind = frame.WhichOneof("frame")
        if self._hello is None:
            if kind != "hello":
                self._break(f"the first frame is {kind}, not hello")
                return
            self._take_hello(frame.hello)
            return
        match kind:
            case "hello":
                self._break("a second hello on one stream")
            case "heartbeat":
                self._take_heartbeat(frame.heartbeat)
            case "report":
                self._take_report(frame.report)
            case "drain":
                self._rules.counts["drains"] += 1
            case "goodbye":
                self._rules.counts["goodbyes"] += 1
                if self._session is not None and self._session.unacknowledged:
                    self._break("goodbye before all reports were acknowledged")
            case _:
                pass

    def _take_hello(self, hello: wire.Hello) -> None:
        self._hello = hello
        self._rules.counts["hellos"] += 1
        session = self._rules.sessions.get(hello.session_id)
        if session is None:
            return
        if not hello.session_secret:
            self._break("hello resumes a session without its secret")
        self._compare(session, {ref.token for ref in hello.held}, hello.received_through, "hello")

    def _take_heartbeat(self, beat: wire.Heartbeat) -> None:
        session, now = self._session, time.monotonic()
        if session is None:
            self._break("a heartbeat before Welcome")
            return
        if beat.sequence <= session.heartbeat:
            self._break(f"heartbeat {beat.sequence} after {session.heartbeat}")
        session.heartbeat = max(session.heartbeat, beat.sequence)
        session.beats[beat.sequence] = beat.received_through
        if self._rules.timely and now - self._beats[-1] > 2 * self._interval_s + PATIENCE_S:
            self._break(f"no heartbeat for {now - self._beats[-1]:.1f} s (interval {self._interval_s} s)")
        if len(self._beats) > 1:
            made = made_at([*self._beats[-_LOOK_BACK:], now], self._interval_s)
            session.read_until = min(self._beats[-2], made - 2 * self._interval_s)
        self._compare(session, set(beat.held_tokens), beat.received_through, "heartbeat")
        self._beats.append(now)

    def _compare(self, session: SessionRecord, held: set[int], received_through: int, where: str) -> None:
        known = session.read_until
        if unknown := held - session.assigned.keys():
            self._break(f"{where} holds tokens {sorted(unknown)} that were never assigned")
        if stale := {token for token in held if session.settled.get(token, float("inf")) < known}:
            self._break(f"{where} still holds {len(stale)} leases that were acknowledged or revoked")
        missing = {
            token
            for token, (_, sent) in session.assigned.items()
            if sent < known and token not in session.settled and token not in held
        }
        if missing:
            self._break(f"{where} forgets {len(missing)} held leases")
        least = max((number for sent, number in session.sequences if sent < known), default=0)
        most = max((number for _, number in session.sequences), default=0)
        if not least <= received_through <= most:
            self._break(f"{where} says received_through {received_through}, sent were {least} to {most}")

    def _take_report(self, report: wire.Report) -> None:
        session = self._session
        if session is None:
            self._break("a report before Welcome")
            return
        self._rules.counts["reports"] += 1
        runs = told_runs(report)
        tokens = frozenset(run.token for run in runs)
        for run in runs:
            if session.assigned.get(run.token, ("", 0.0))[0] != run.task_id:
                self._break(f"a report names {run.task_id} with a token that was not assigned for it")
        if report.report_id in session.unacknowledged:
            self._rules.counts["repeated_reports"] += 1
        for report_id, others in session.unacknowledged.items():
            if report_id != report.report_id and others & tokens:
                self._break(f"report {report_id} is repeated under another id ({report.report_id})")
        session.unacknowledged[report.report_id] = tokens

    def from_broker(self, frame: wire.WorkResponse) -> None:
        """A frame on its way to the worker."""
        now, session = time.monotonic(), self._session
        kind = frame.WhichOneof("frame")
        if kind == "welcome":
            self._take_welcome(frame.welcome, now)
        elif session is None:
            self._break(f"the broker sent {kind} before Welcome")
        elif kind == "assignments":
            session.sequences.append((now, frame.assignments.sequence))
            for run in assigned(frame.assignments):
                session.assigned[run.token] = (run.task_id, now)
                self._rules.headers.append(dict(run.headers))
        elif kind == "report_ack":
            ack = frame.report_ack
            self._rules.counts["stale"] += len(ack.stale_tokens)
            self._rules.counts["duplicate"] += len(ack.duplicate_tokens)
            for token in session.unacknowledged.pop(ack.report_id, frozenset()):
                session.settled.setdefault(token, now)
        elif kind == "heartbeat_ack":
            self._rules.counts["revoked"] += len(frame.heartbeat_ack.revoked)
            session.receipt = max(session.receipt, session.beats.get(frame.heartbeat_ack.sequence, 0))
            for ref in frame.heartbeat_ack.revoked:
                session.settled.setdefault(ref.token, now)
        else:
            name = {"cancel": "cancels", "leave": "leaves", "drain": "broker_drains"}.get(kind or "", "other")
            self._rules.counts[name] += 1

    def _take_welcome(self, welcome: wire.Welcome, now: float) -> None:
        self._interval_s = welcome.heartbeat_interval.ToNanoseconds() / 1e9
        self._beats = [now]
        if welcome.resumed:
            self._rules.counts["resumed"] += 1
        self._rules.counts["adopted"] += len(welcome.adopted)
        self._rules.counts["revoked"] += len(welcome.revoked)
        session = self._rules.sessions.setdefault(welcome.session_id, SessionRecord(welcome.session_id))
        self._session = session
        if self._hello is not None:
            for ref in welcome.revoked:
                # Ended runs of the session before may still be reported here.
                session.assigned.setdefault(ref.token, (ref.task_id, now))
                session.settled.setdefault(ref.token, now)
        if welcome.resumed and self._hello is not None:
            adopted = {ref.token for ref in welcome.adopted}
            for token in session.assigned.keys() - adopted:
                session.settled.setdefault(token, now)
