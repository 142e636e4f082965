"""Whatever user code raises, wherever: that run fails with what is known, and nothing else notices."""

import pytest

from tests.integration.worker.conftest import Bench, Worker
from tests.integration.worker.odd_errors import DELAYS, ERRORS
from tests.support.columns import Assignment, ToldRun
from tests.support.scripted_broker import assignment

ODD_APP = "tests.integration.worker.odd_app:app"


class Watched:
    """A worker of odd tasks, of which nobody but the odd runs may notice anything."""

    def __init__(self, bench: Bench, worker: Worker) -> None:
        self.bench, self.worker = bench, worker
        self._children = {child.pid for child in worker.children()}

    async def see_through(self, *runs: Assignment) -> list[ToldRun]:
        """How the runs end, each before and after an innocent one."""
        innocent = [assignment(name, {"a": 1, "b": n}) for n in range(len(runs)) for name in ("add", "aadd")]
        pairs = zip(innocent[::2], innocent[1::2], runs, strict=True)
        await self.bench.broker.assign(*(run for three in pairs for run in three))
        told = [await self.bench.broker.outcome(run) for run in runs]
        for run in innocent:
            await self.bench.complete(run)
        return told

    def assert_unharmed(self) -> None:
        """One session, one stream, and the children that it began with."""
        assert {child.pid for child in self.worker.children()} == self._children
        assert len(self.bench.broker.hellos) == 1


@pytest.fixture
async def odd(bench: Bench) -> Watched:
    return Watched(bench, await bench.ready(target=ODD_APP))


async def test_delay_that_is_none_leaves_the_backoff_of_the_task(odd: Watched) -> None:
    runs = [assignment("fail_later", {"how": how}) for how in [*DELAYS, "missing"]]
    for told in await odd.see_through(*runs):
        assert told.failed.error.type in ("Later", "Never")
        assert told.failed.retryable
        assert told.failed.retry_delay.seconds == 7
    odd.assert_unharmed()


async def test_backoff_that_is_none_leaves_the_default(odd: Watched) -> None:
    runs = [assignment("fail_with_odd_backoff", attempt_number=number) for number in range(6)]
    for number, told in enumerate(await odd.see_through(*runs)):
        assert told.failed.error.message == "odd"
        assert told.failed.retry_delay.ToTimedelta().total_seconds() == pytest.approx(2**number, rel=0.21)
    odd.assert_unharmed()


@pytest.mark.parametrize("task", ["raise_odd", "araise_odd"])
async def test_error_that_cannot_be_described_fails_its_run_alone(odd: Watched, task: str) -> None:
    cases = [*ERRORS, "recursion"]
    told = dict(
        zip(cases, await odd.see_through(*(assignment(task, {"how": c}) for c in cases)), strict=True)
    )
    errors = {case: report.failed.error for case, report in told.items()}
    assert all(report.HasField("failed") for report in told.values()), told
    assert (errors["silent"].type, errors["silent"].message) == ("Silent", "<its __str__ raised SystemExit>")
    assert (errors["hollow"].type, errors["hollow"].message) == (
        "Hollow",
        "<its __str__ raised AttributeError>",
    )
    assert (errors["veiled"].type, errors["veiled"].message) == ("Veiled", "veiled")
    assert (errors["worded"].type, errors["worded"].message) == ("Worded", "odd words")
    assert (errors["nameless"].type, errors["nameless"].message) == ("Nameless", "nameless")
    assert errors["syntax"].type == "SyntaxError"
    assert "circle" in errors["circle"].message
    assert (errors["chain"].type, errors["chain"].message) == ("ValueError", "chain")
    assert errors["group"].type == "BaseExceptionGroup"
    assert errors["surrogate"].message == "\\ud800\\x00"
    assert errors["large"].message == "x" * 10_000
    assert errors["recursion"].type == "RecursionError"
    kept = ("StopIteration", "RuntimeError"), ("GeneratorExit",), ("KeyboardInterrupt",), ("SystemExit",)
    for case, kinds in zip(("stop", "generator", "interrupt", "exit"), kept, strict=True):
        assert errors[case].type in kinds
    # Whatever could be formatted or not, each says where it was raised.
    assert [case for case, error in errors.items() if f", in {task}" not in error.traceback] in ([], ["stop"])
    odd.assert_unharmed()


@pytest.mark.parametrize("prefix", ["", "a"])
async def test_validator_or_serialiser_that_ends_its_process_fails_its_run_alone(
    odd: Watched, prefix: str
) -> None:
    runs = [
        assignment(prefix + name, {"text": how}) for name in ("decode", "encode") for how in ("x", "silent")
    ]
    told = await odd.see_through(*runs)
    kinds = ["SystemExit", "Silent", "ResultNotSerializable", "ResultNotSerializable"]  # pydantic wraps these
    assert [report.failed.error.type for report in told] == kinds
    assert not any(report.failed.retryable for report in told)
    assert odd.bench.journal() == []
    odd.assert_unharmed()


async def test_coroutine_as_a_result_is_named_and_nobody_complains_of_it_later(odd: Watched) -> None:
    (told,) = await odd.see_through(assignment("forget_await"))
    assert told.failed.error.type == "ResultNotSerializable"
    assert "returned a coroutine: await it" in told.failed.error.message
    odd.assert_unharmed()
    assert not any("never awaited" in line for line in odd.worker.output)


async def test_child_whose_socket_was_written_into_is_replaced(odd: Watched) -> None:
    (told,) = await odd.see_through(assignment("scribble"))
    assert told.lost.reason == "child exited with signal SIGKILL"
    assert len(odd.bench.broker.hellos) == 1
