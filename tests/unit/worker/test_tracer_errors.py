"""Errors of the tracer, whose processors are user code, change nothing for runs and sends."""

import logging
import socket
from collections.abc import Callable

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider

from hyrex import HyrexRegistry, NonRetryable
from hyrex.backend import tracing
from hyrex.backend.around_sends import store_within
from hyrex.backend.outgoing import Outgoing, OutgoingBatch, prepare, prepare_many
from hyrex.backend.tracing import SendSpans
from hyrex.middleware import hooks_of
from hyrex.worker.child import run_spans
from hyrex.worker.child.around_runs import hooks_of_tasks
from hyrex.worker.child.contexts import RunContexts
from hyrex.worker.child.parent_socket import ParentSocket
from hyrex.worker.child.run_spans import RunSpans
from hyrex.worker.child.runner import Workplace
from hyrex.worker.child.surroundings import Surroundings
from hyrex.worker.child.sync_runner import SyncRunner
from hyrex.worker.shared.memory import Ledger, TrustCell, boottime_ns, create_fd
from hyrex.worker.shared.outcome import Completed, Ending, Failed
from hyrex.worker.shared.runs import RunBlock, RunTerms

hy = HyrexRegistry()


class Mute(NonRetryable):
    """Cannot be shown."""

    def __str__(self) -> str:
        raise LookupError("in __str__")


@hy.task
def returns() -> int:
    return 7


@hy.task
def raises() -> None:
    raise NonRetryable("for good")


@hy.task
def raises_mute() -> None:
    raise Mute


class Broken(SpanProcessor):
    """Raises where it is told to; counts what it saw."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.ended: list[str | None] = []

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if self.where == "start":
            raise RuntimeError("the tracer is broken at start")

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span.status.description)
        if self.where == "end":
            raise RuntimeError("the tracer is broken at end")


class Told(ParentSocket):
    """Keeps the ends that are told."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self.endings: list[Ending] = []

    def end_here(self, ending: Ending, *, more: bool) -> None:
        self.endings.append(ending)


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_spans, "_told", False)
    monkeypatch.setattr(tracing, "_told", False)


def endings(processor: SpanProcessor, *names: str) -> list[Ending]:
    """How runs of these tasks end in a child with such a tracer."""
    provider = TracerProvider()
    provider.add_span_processor(processor)
    here, there = socket.socketpair()
    trust = TrustCell(create_fd(TrustCell.SIZE_BYTES))
    trust.until_ns = boottime_ns() + 600 * 10**9
    ledger = Ledger(create_fd(Ledger.size_bytes(1)), 1)
    tasks = {task.name: task for task in (returns, raises, raises_mute)}
    with here, there:
        told = Told(here.detach())
        runner = SyncRunner(Workplace(told, ledger, trust, tasks, RunContexts(), "worker", slots=1))
        ids = b"0123456789abcdef"
        runner.accept(
            1, [RunBlock(RunTerms(name, "default"), [n], ids, [b"{}"]) for n, name in enumerate(names)]
        )
        runner.finish()
        runner._surroundings = Surroundings()
        runner._around = hooks_of_tasks(tasks, {}, RunSpans(provider.get_tracer("test")))
        runner._execute = runner._execute_within
        runner._work(0)
        told.disown()
    return told.endings


@pytest.mark.parametrize("where", ["start", "end"])
def test_a_broken_tracer_changes_no_outcome_and_is_told_once(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        returned, raised = (each.outcome for each in endings(Broken(where), "returns", "raises"))
    assert returned == Completed(b"7")
    assert isinstance(raised, Failed)
    assert (raised.error.type, raised.retryable) == ("NonRetryable", False)
    (line,) = [record.getMessage() for record in caplog.records]
    assert f"the tracer is broken at {where}" in line


def test_an_error_that_cannot_be_shown_is_the_outcome_of_its_run_and_its_span_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    processor = Broken("nowhere")
    (ending,) = endings(processor, "raises_mute")
    assert isinstance(ending.outcome, Failed)
    assert (ending.outcome.error.type, ending.outcome.retryable) == ("Mute", False)
    assert processor.ended == ["Mute: <its __str__ raised LookupError>"]


SENDS: dict[str, Callable[[], Outgoing | OutgoingBatch]] = {
    "one": lambda: prepare(returns._spec, b"{}"),
    "many": lambda: prepare_many([returns._spec], [b"{}"]),
}


@pytest.mark.parametrize("where", ["start", "end"])
@pytest.mark.parametrize("how", SENDS)
def test_a_broken_tracer_keeps_nothing_from_being_sent(
    how: str, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    provider = TracerProvider()
    provider.add_span_processor(Broken(where))
    spans = SendSpans(provider.get_tracer("test"))
    stored: list[int] = []

    def fail() -> None:
        raise ZeroDivisionError

    for _ in range(2):
        store_within(hooks_of([spans]), SENDS[how](), lambda: stored.append(1))
        with pytest.raises(ZeroDivisionError):
            store_within(hooks_of([spans]), SENDS[how](), fail)
    assert len(stored) == 2
    assert [record.exc_text or "" for record in caplog.records].count("") == 0
    assert len(caplog.records) == 1
