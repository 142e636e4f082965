"""Sending: from threads, loops and forked children, more than once, to more than one broker."""

import asyncio
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

import hyrex
from hyrex import (
    BrokerUnavailable,
    DuplicateTask,
    HyrexRegistry,
    PayloadTooLarge,
    SendRejected,
    SubmitUnknown,
    TaskHandle,
)
from hyrex.backend.known import outgoing_of
from hyrex.client.process import close_client
from hyrex.sendable import Sendable
from tests.contract import more_tasks as more
from tests.contract.conftest import TARGET
from tests.support.postgres import connect, run_apart
from tests.support.processes import RunningBroker, StartBroker, StartWorker

WAIT_S = 60.0
KEYED_SENDS: Mapping[str, Callable[[Sendable[..., int | None]], TaskHandle[int | None]]] = {
    "send": lambda keyed: keyed.send(2),
    "send_many": lambda keyed: hyrex.send_many([more.optional.call(0), keyed.call(2), keyed.call(2)])[1],
    "send_async": lambda keyed: asyncio.run(keyed.send_async(2)),
    "send_many_async": lambda keyed: asyncio.run(hyrex.send_many_async([keyed.call(2)]))[0],
}


async def _count(database_url: str, sql: str) -> int:
    connection = await connect(database_url)
    try:
        return int(await connection.fetchval(sql))
    finally:
        await connection.close()


@pytest.mark.usefixtures("served")
class TestOneBroker:
    """With the contract's broker and worker."""

    def test_async_callers_send_and_wait_without_blocking_their_loop(self) -> None:
        async def caller() -> list[int]:
            handles = [await more.async_sum.send_async([n, 1]) for n in range(20)]
            return list(await asyncio.gather(*(handle.result_async(timeout=WAIT_S) for handle in handles)))

        assert asyncio.run(caller()) == [n + 1 for n in range(20)]

    def test_threads_send_at_once(self) -> None:
        with ThreadPoolExecutor(16) as pool:
            handles = list(pool.map(more.optional.send, range(200)))
        assert len({handle.id for handle in handles}) == 200
        assert hyrex.wait_all(handles, timeout=WAIT_S)
        assert sorted(handle.result(timeout=WAIT_S) or 0 for handle in handles) == list(range(200))

    def test_children_of_a_prefork_server_send(self, served: RunningBroker) -> None:
        program = textwrap.dedent(
            """
            import os
            from tests.contract import more_tasks as more
            assert more.optional.send(0).result(timeout=30) == 0
            children = []
            for number in range(3):
                child = os.fork()
                if child == 0:
                    ok = more.optional.send(number).result(timeout=30) == number
                    os._exit(0 if ok else 1)
                children.append(child)
            codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
            assert more.optional.send(9).result(timeout=30) == 9
            print(codes)
            """
        )
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program],
            env=os.environ | {"HYREX_BROKER_URL": served.url},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.stdout.strip() == "[0, 0, 0]", done.stderr

    def test_the_same_submit_repeated_is_one_task(self, contract_database: str) -> None:
        handle = more.optional.send(1)
        handle.resend()
        handle.resend()
        assert handle.wait(timeout=WAIT_S)
        assert len(handle.task_runs) == 1
        sql = f"select count(*) from task where id = '{handle.id}'"
        assert run_apart(_count(contract_database, sql)) == 1

    def test_an_idempotency_key_makes_two_sends_one_task(self) -> None:
        keyed = more.optional.with_config(idempotency_key=f"key-{time.time_ns()}")
        first, second = keyed.send(1), keyed.send(2)
        assert second.id == first.id
        assert second.deduplicated
        assert not first.deduplicated

    def test_a_key_that_hits_says_how_its_task_stands(self, caplog: pytest.LogCaptureFixture) -> None:
        keyed = more.optional.with_config(idempotency_key=f"key-{time.time_ns()}")
        first = keyed.send(1)
        assert first.result(timeout=WAIT_S) == 1
        second = keyed.send(1)
        second.resend()
        assert (second.id, second.deduplicated, second.arguments_differ) == (first.id, True, False)
        assert second.status == "completed"
        assert "idempotency" not in caplog.text

    @pytest.mark.parametrize("way", KEYED_SENDS)
    def test_a_key_that_hits_with_other_arguments_is_not_silent(
        self, way: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        key = f"key-{time.time_ns()}"
        keyed = more.optional.with_config(idempotency_key=key, delay=3600)
        first = keyed.send(1)
        second = KEYED_SENDS[way](keyed)
        assert (second.id, second.deduplicated, second.arguments_differ) == (first.id, True, True)
        assert second.status == "scheduled"
        second.resend()
        (warning,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
        sent = outgoing_of(second).task_id
        assert all(word in warning for word in (first.task_name, key, str(first.id), sent)), warning
        first.cancel()

    def test_delay_and_run_at_postpone(self) -> None:
        began = datetime.now(UTC)
        delayed = more.optional.with_config(delay=1).send(1)
        at = more.optional.with_config(run_at=began + timedelta(seconds=1)).send(1)
        for handle in (delayed, at):
            assert handle.wait(timeout=WAIT_S)
            started = handle.task_runs[0].started
            assert started is not None
            assert started >= began + timedelta(seconds=1)
        later = more.optional.with_config(delay=3600).send(1)
        later.refresh()
        assert later.status == "scheduled"
        later.cancel()
        with pytest.raises(ValueError, match=r"naive|timezone|time zone"):
            more.optional.with_config(run_at=datetime(2027, 1, 1))

    def test_cancel_ends_waiting_and_running_tasks(self) -> None:
        waiting = more.optional.with_config(delay=60).send(1)
        running = more.nap.send(60)
        while not running.task_runs:
            running.refresh()
        for handle in (waiting, running):
            handle.cancel()
            assert not handle.wait(timeout=WAIT_S)
            assert handle.status == "cancelled"

    def test_send_many_validates_all_before_any_is_sent(self, contract_database: str) -> None:
        sql = "select count(*) from task join lane on lane.id = task.lane where name = 'flag'"
        before = run_apart(_count(contract_database, sql))
        with pytest.raises(hyrex.ArgumentInvalid):
            hyrex.send_many([more.flag.call(True), more.flag.call("perhaps")])  # type: ignore[arg-type]
        assert run_apart(_count(contract_database, sql)) == before
        handles = hyrex.send_many(more.flag.call(True) for _ in range(2500))
        assert hyrex.wait_all(handles, timeout=WAIT_S)

    def test_a_task_that_no_worker_has_waits(self, contract_database: str) -> None:
        handle = more.elsewhere.send(1)
        assert not _ended_within(handle, 0.3)
        handle.refresh()
        assert handle.status == "queued"
        handle.cancel()

    def test_what_a_broker_refuses_names_the_value(self, contract_database: str) -> None:
        before = run_apart(_count(contract_database, "select count(*) from task"))
        for options in (
            {"priority": 11},
            {"priority": 0},
            {"max_retries": -1},
            {"timeout_seconds": 0},
            {"queue": "a\0"},
        ):
            with pytest.raises((ValueError, SendRejected), match=next(iter(options))):
                more.optional.with_config(**options).send(1)
        with pytest.raises(PayloadTooLarge, match="4,194,304"):
            more.size_of.send("x" * (5 * 1024 * 1024))
        assert run_apart(_count(contract_database, "select count(*) from task")) == before


def _ended_within(handle: hyrex.TaskHandle[int], seconds: float) -> bool:
    try:
        return handle.wait(timeout=seconds)
    except TimeoutError:
        return False


def test_names_that_repeat_are_refused_with_both_places() -> None:
    hy = HyrexRegistry()

    @hy.task(name="twice")
    def first() -> None: ...

    with pytest.raises(DuplicateTask, match=r"(?s)test_sending\.py:\d+.*test_sending\.py:\d+"):

        @hy.task(name="twice")
        def second() -> None: ...


def test_a_broker_that_is_not_there_is_named_within_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hyrex.config.DEFAULT_SEND_TIMEOUT_S", 60.0)
    monkeypatch.setenv("HYREX_BROKER_URL", "grpc://127.0.0.1:9")
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", "0.5")
    began = time.monotonic()
    try:
        with pytest.raises((BrokerUnavailable, SubmitUnknown), match=r"127\.0\.0\.1:9") as caught:
            more.optional.send(1)
    finally:
        close_client()
    assert time.monotonic() - began < 20
    handle = getattr(caught.value, "handle", None)
    assert handle is None or isinstance(handle.id, UUID)


def test_two_brokers_with_a_worker_each_share_the_work(
    start_broker: StartBroker, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    brokers = [start_broker(), start_broker()]
    for number, broker in enumerate(brokers):
        start_worker(TARGET, "-p", "1", "--name", f"w{number}", broker_url=broker.url)
    monkeypatch.setenv("HYREX_BROKER_URL", brokers[0].url)
    try:
        handles = hyrex.send_many(more.nap.call(0.05) for _ in range(40))
        assert hyrex.wait_all(handles, timeout=WAIT_S)
        workers = {handle.task_runs[0].worker for handle in handles}
    finally:
        close_client()
    assert workers == {"w0", "w1"}
