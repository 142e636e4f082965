"""Every scenario passes in every language whose toolchain is here; the suite notices broken rules."""

import asyncio
import os
from typing import Final

import pytest

from hyrex.v1 import worker_service_pb2 as wire
from tests.conformance.cluster import Cluster
from tests.conformance.conftest import Played, with_cluster
from tests.conformance.languages import LANGUAGES
from tests.conformance.suite import Result, Suite, Verdict, load_scenarios
from tests.conformance.tap import Falsify
from tests.support.postgres import copied_database, run_apart

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.mark.parametrize("scenario", [scenario.name for scenario in load_scenarios()])
@pytest.mark.parametrize("language", list(LANGUAGES))
def test_scenario_passes(language: str, scenario: str, played: Played) -> None:
    result = played[language, scenario]
    if result.verdict is Verdict.SKIPPED:
        pytest.skip(f"{language}: {result.text}")
    assert result.verdict is Verdict.PASSED, result.text


def forget_receipts(frame: wire.WorkRequest) -> wire.WorkRequest:
    """A worker that never says what it received and holds."""
    match frame.WhichOneof("frame"):
        case "heartbeat":
            del frame.heartbeat.held_tokens[:]
            frame.heartbeat.received_through = 0
        case "hello":
            del frame.hello.held[:]
            frame.hello.received_through = 0
        case _:
            pass
    return frame


def report_with_an_old_token(frame: wire.WorkRequest) -> wire.WorkRequest:
    """A worker that reports under a token which is not that of the lease."""
    for run in frame.report.runs:
        run.token -= 1
    for group in frame.report.completed:
        group.tokens[:] = [token - 1 for token in group.tokens]
    return frame


def hello_twice(frame: wire.WorkRequest) -> wire.WorkRequest:
    """A worker that greets instead of capacity updates and heartbeats."""
    if frame.HasField("heartbeat"):
        return wire.WorkRequest(hello=wire.Hello(worker_name="again", protocol_version=1))
    return frame


OF_SENDERS: Final = (
    "cancel_queued", "errors_of_items", "payload_1_mib", "retry_finished", "submit", "submit_repeat",
    "success",
)  # fmt: skip
BEHIND_A_GATEWAY: Final = ("python", "go")


@pytest.fixture(scope="module")
def behind_a_gateway(conformance_database: str, postgres_url: str, template_database: str) -> Played:
    """What senders do, through a gateway to two cells; workers connect to their cell."""

    async def play(cluster: Cluster) -> list[Result]:
        return await Suite(cluster).run(
            [LANGUAGES[one] for one in BEHIND_A_GATEWAY], load_scenarios(OF_SENDERS)
        )

    with copied_database(postgres_url, template_database, f"hyrex_second_cell_{os.getpid()}") as second:
        results = run_apart(with_cluster(conformance_database, play, second))
    return {(result.language, result.scenario): result for result in results}


@pytest.mark.parametrize("language", BEHIND_A_GATEWAY)
def test_senders_notice_no_gateway(language: str, behind_a_gateway: Played) -> None:
    found = {scenario: behind_a_gateway[language, scenario] for scenario in OF_SENDERS}
    if LANGUAGES[language].absence:
        pytest.skip(f"{language}: {LANGUAGES[language].absence}")
    failed = {name: each.text for name, each in found.items() if each.verdict is not Verdict.PASSED}
    assert failed == {}


Falsified = tuple[Falsify, str, bool]
FALSIFIED: Final[dict[str, Falsified]] = {
    "receipts forgotten": (forget_receipts, "stream_cut", True),
    "old token": (report_with_an_old_token, "success", True),
    "hello twice": (hello_twice, "success", True),
    "receipts forgotten, wire unwatched": (forget_receipts, "stream_cut", False),
    "old token, wire unwatched": (report_with_an_old_token, "success", False),
}


@pytest.fixture(scope="module")
def betrayed(conformance_database: str) -> dict[str, Result]:
    """Scenarios of a Python worker whose frames were falsified on their way."""

    async def play(cluster: Cluster) -> dict[str, Result]:
        async def one(falsify: Falsify, scenario: str, check: bool) -> Result:
            suite = Suite(cluster, falsify, check_rules=check)
            return await suite.play(LANGUAGES["python"], load_scenarios([scenario])[0])

        results = await asyncio.gather(*(one(*falsified) for falsified in FALSIFIED.values()))
        return dict(zip(FALSIFIED, results, strict=True))

    return run_apart(with_cluster(conformance_database, play))


@pytest.mark.parametrize(
    ("falsified", "sentence"),
    [
        ("receipts forgotten", "received_through 0"),
        ("old token", "a token that was not assigned"),
        ("hello twice", "a second hello"),
    ],
)
def test_watching_the_wire_notices_a_broken_rule(
    falsified: str, sentence: str, betrayed: dict[str, Result]
) -> None:
    assert betrayed[falsified].verdict is Verdict.FAILED
    assert sentence in betrayed[falsified].text


def test_forgotten_receipts_make_runs_run_twice(betrayed: dict[str, Result]) -> None:
    result = betrayed["receipts forgotten, wire unwatched"]
    assert result.verdict is Verdict.FAILED
    assert "rule broken" not in result.text


def test_old_tokens_record_nothing(betrayed: dict[str, Result]) -> None:
    result = betrayed["old token, wire unwatched"]
    assert result.verdict is Verdict.FAILED
    assert "rule broken" not in result.text
