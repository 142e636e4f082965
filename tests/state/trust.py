"""A worker's trust as a machine: two brokers, two workers, and a network that delays and loses.

Storage, session registry, heartbeats and the worker's own session are the real ones. Time is the machine's:
it passes when a rule says so, for the database by moving every expiry nearer. Whatever happens, no task may
be executed by two workers that both trust their lease, no broker may believe other leases than the
database, and no report may be accepted but the one of the lease that stands.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hyrex.worker.stream.session import SessionTerms, WorkerSession
from hyrex_broker.domain.errors import SessionEnded
from hyrex_broker.domain.model import LeaseRef, Outcome, RunEnd, SessionId, Token
from hyrex_broker.engine.sessions.registry import Sessions
from hyrex_broker.engine.sessions.session import ServedSession
from hyrex_broker.storage.assign import LaneQuota, Plan
from hyrex_broker.storage.sessions import Beat
from tests.integration.storage.stage import LEASE, ZERO, Ended
from tests.state.trust_parts import (
    Answer,
    Frame,
    Link,
    Trust,
    Worker,
    heartbeats_of,
    introduced,
    stored_holders,
    stored_leases,
    stored_tokens,
    swept,
)
from tests.state.world import World
from tests.support.assigned import runs_of

_SECOND_NS = 1_000_000_000
_workers = st.integers(0, 1)
_brokers = st.integers(0, 1)
_outcomes = st.sampled_from([Outcome.COMPLETED, Outcome.FAILED])


class TrustMachine(RuleBasedStateMachine):
    """What workers, brokers, clocks and the network may do."""

    world: ClassVar[World]
    registries: list[Sessions]
    workers: list[Worker]
    now_ns: int

    @initialize()
    def begin(self) -> None:
        self.world.empty()
        self.now_ns = _SECOND_NS
        self.registries = self.world.sessions()
        self.heartbeats = [
            heartbeats_of(self.world, n, registry) for n, registry in enumerate(self.registries)
        ]
        self.workers = [self._new_worker(n) for n in range(2)]
        self.former: list[tuple[int, ServedSession]] = []

    def _new_worker(self, broker: int) -> Worker:
        session = self.world.run(self.registries[broker].open(introduced([], 0), Link()))
        trust = Trust()
        own = WorkerSession(trust)  # type: ignore[arg-type]
        own.begin(
            str(session.session_id), session.secret, SessionTerms(LEASE.total_seconds(), 3.0, 1 << 20, 1000)
        )
        worker = Worker(broker, session, own, trust)
        own.trust_from(self.now_ns)
        return worker

    # The world outside

    @rule(count=st.integers(1, 2))
    def submit(self, count: int) -> None:
        self.world.run(self.world.stages[0].submitted(count))

    @rule(seconds=st.sampled_from([1, 5, 16]))
    def time_passes(self, seconds: int) -> None:
        """Watchdogs end what is not trusted any more; the runs are given back once that can be said."""
        self.now_ns += seconds * _SECOND_NS
        self.world.run(
            self.world.stages[0].execute(
                "update worker_session set expires_at = expires_at - $1 * interval '1 second'", seconds
            )
        )
        for worker in self.workers:
            if not self._trusts(worker):
                for token, task_id in worker.executing.items():
                    worker.ended[token] = Ended(
                        task_id, token, worker.session.session_id, Outcome.RELEASED, 1
                    )
                worker.executing.clear()

    # Brokers

    @rule(pick=_workers, count=st.integers(1, 2))
    def assign(self, pick: int, count: int) -> None:
        worker = self.workers[pick]
        if self.registries[worker.broker].by_id.get(worker.session.session_id) is worker.session:
            frame = self._assign(worker.broker, worker.session, count)
            if frame is not None:
                worker.frames.append(frame)

    @rule(count=st.integers(1, 2))
    def assign_late(self, count: int) -> None:
        """A broker that has not noticed yet that its session went elsewhere."""
        for broker, session in self.former:
            assert self._assign(broker, session, count) is None, "an assign for a session of another owner"

    def _assign(self, broker: int, session: ServedSession, count: int) -> Frame | None:
        stage = self.world.stages[broker]
        lane = self.world.run(stage.lane())
        sequence = session.next_sequence()
        base, stage.token = stage.token, stage.token + count
        quota = LaneQuota(lane, [(rank, ZERO) for rank in range(10)], [session.session_id] * count)
        ids = {session.session_id: session.generation}
        tokens = [Token(base + place) for place in range(count)]
        plan = Plan(stage.broker, ids, {session.session_id: sequence}, tokens, [quota])
        result = self.world.run(stage.assigns.assign(plan, stage.names))
        session.unsent.discard(sequence)
        runs = runs_of(result.blocks)
        if result.refused or not runs:
            return None
        for run in runs:
            session.add(run.token, run.task_id, run.sequence, "")
        return Frame(session.receipt, runs)

    @rule(broker=_brokers)
    def sweep(self, broker: int) -> None:
        stage = self.world.stages[broker]
        for ended in self.world.run(swept(stage.sessions)):
            self._session_ended(ended)

    def _session_ended(self, session_id: SessionId) -> None:
        for registry in self.registries:
            session = registry.by_id.get(session_id)
            if session is not None:
                registry.leave(session)

    # Workers and wires

    @rule(pick=_workers)
    def deliver(self, pick: int) -> None:
        worker = self.workers[pick]
        if not worker.frames:
            return
        frame = worker.frames.pop(0)
        worker.own.received_through = max(worker.own.received_through, frame.receipt)
        for run in frame.runs:
            worker.held[Token(run.token)] = run.task_id
            if self._trusts(worker):
                worker.executing[Token(run.token)] = run.task_id

    @rule(pick=_workers)
    def beat(self, pick: int) -> None:
        worker = self.workers[pick]
        worker.beats.append((self.now_ns, list(worker.held), worker.own.received_through))

    @rule(pick=_workers)
    def beat_arrives(self, pick: int) -> None:
        worker = self.workers[pick]
        if not worker.beats:
            return
        sent_ns, held, received_through = worker.beats.pop(0)
        session = worker.session
        stage = self.world.stages[worker.broker]
        orphans = self.heartbeats[worker.broker].beat(session, 1, held, received_through)
        self._end(worker, orphans)
        beat = Beat(session.session_id, session.generation, session.received_through)
        renewed = self.world.run(stage.sessions.renew(stage.broker, [beat]))
        if renewed:
            revoked = [token for token in held if token not in session.leases]
            worker.answers.append(Answer(sent_ns, revoked))
        else:
            self.registries[worker.broker].leave(session)
            worker.answers.append(Answer(sent_ns, [], over=True))

    @rule(pick=_workers)
    def answer_arrives(self, pick: int) -> None:
        worker = self.workers[pick]
        if not worker.answers:
            return
        answer = worker.answers.pop(0)
        if answer.over:
            self.workers[pick] = self._begin_anew(worker)
            return
        self._acknowledged(worker, answer)
        for token in answer.revoked:
            worker.executing.pop(token, None)
            if token not in worker.ended:
                worker.held.pop(token, None)

    def _acknowledged(self, worker: Worker, answer: Answer) -> None:
        worker.own.trust_from(answer.sent_ns)

    @rule(pick=_workers)
    def answer_is_lost(self, pick: int) -> None:
        if self.workers[pick].answers:
            self.workers[pick].answers.pop()

    def _begin_anew(self, worker: Worker) -> Worker:
        """The session is over: nothing of it goes on; what has ended is still reported."""
        fresh = self._new_worker(worker.broker)
        fresh.ended = worker.ended
        fresh.held = {token: end.task_id for token, end in worker.ended.items()}
        return fresh

    @rule(pick=_workers, outcome=_outcomes)
    def finish(self, pick: int, outcome: Outcome) -> None:
        worker = self.workers[pick]
        for token, task_id in list(worker.executing.items())[:1]:
            del worker.executing[token]
            worker.ended[token] = Ended(task_id, token, worker.session.session_id, outcome, 1)

    @rule(pick=_workers)
    def report(self, pick: int) -> None:
        worker = self.workers[pick]
        ends = list(worker.ended.values())
        self._end(worker, ends)
        for end in ends:
            del worker.ended[end.token]
            worker.held.pop(end.token, None)

    @rule(pick=_workers, broker=_brokers)
    def reconnect(self, pick: int, broker: int) -> None:
        """The stream breaks, with all that was on its way; the worker resumes at some broker."""
        worker = self.workers[pick]
        held = [LeaseRef(task_id, token) for token, task_id in worker.held.items()]
        introduction = introduced(held, worker.own.received_through)
        registry, old = self.registries[broker], (worker.broker, worker.session)
        try:
            resumption = self.world.run(
                registry.resume(worker.session.session_id, worker.own.secret, introduction, Link())
            )
        except SessionEnded:
            self.workers[pick] = self._begin_anew(worker)
            return
        self.registries[old[0]].leave(old[1]) if old[0] != broker else None
        self.former.append(old)
        worker.broker, worker.session = broker, resumption.session
        worker.frames, worker.beats, worker.answers = [], [], []
        for ref in resumption.revoked:
            worker.executing.pop(ref.token, None)
            if ref.token not in worker.ended:
                worker.held.pop(ref.token, None)
        own = worker.session.session_id
        ends = [RunEnd(ref.task_id, ref.token, own, Outcome.LOST, 0) for ref in resumption.orphans]
        ends += [RunEnd(ref.task_id, ref.token, own, Outcome.RELEASED) for ref in resumption.unreceived]
        self._end(worker, ends)

    def _end(self, worker: Worker, ends: Sequence[RunEnd]) -> None:
        """Through the worker's broker, in the name of whichever session holds the task: accepted must be
        exactly what bears the token of a lease."""
        if not ends:
            return
        stage = self.world.stages[worker.broker]
        standing = self.world.run(stored_tokens(stage.database))
        holders = self.world.run(stored_holders(stage.database))
        named = [replace(end, session_id=holders.get(end.task_id, end.session_id)) for end in ends]
        ended = self.world.run(stage.ended(named))
        accepted = {each.token for each in ended}
        assert accepted == {end.token for end in ends} & standing, "a report without its lease was accepted"
        for registry in self.registries:
            for session in registry.by_id.values():
                for end in ends:
                    session.remove(end.token)

    def _trusts(self, worker: Worker) -> bool:
        return worker.trust.until_ns > self.now_ns

    # What must hold

    @invariant()
    def no_task_is_executed_by_two_that_trust(self) -> None:
        trusted = [task for w in self.workers if self._trusts(w) for task in w.executing.values()]
        assert len(trusted) == len(set(trusted)), "executed twice at once"

    @invariant()
    def brokers_know_the_leases_of_their_sessions(self) -> None:
        believed = {
            (session.session_id, token)
            for registry in self.registries
            for session in registry.by_id.values()
            for token in session.leases
        }
        stored = self.world.run(stored_leases(self.world.stages[0].database))
        owned = {session.session_id for registry in self.registries for session in registry.by_id.values()}
        assert believed == {lease for lease in stored if lease[0] in owned}, "an orphan lease"

    @invariant()
    def nothing_is_completed_twice(self) -> None:
        twice = self.world.run(
            self.world.stages[0].execute(
                "select count(*) from (select task_id from task_run where outcome = 2 or final"
                " group by task_id having count(*) > 1) t"
            )
        )
        assert twice == 0, "recorded twice"
