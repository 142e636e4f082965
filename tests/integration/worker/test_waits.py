"""Tasks that wait for tasks, with a real broker: they end, or say why they cannot."""

from collections.abc import Iterator

import pytest

from hyrex.client.process import close_client
from tests.integration.worker import waits_app as app
from tests.support.processes import RunningBroker, StartBroker, StartWorker

WAIT_S = 40.0
APP = "tests.integration.worker.waits_app:app"


@pytest.fixture
def serving(
    broker: RunningBroker, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A worker with one slot for sync tasks and two for async ones."""
    monkeypatch.setenv("HYREX_BROKER_URL", broker.url)
    start_worker(APP, "-p", "1", "--async-concurrency", "2")
    yield
    close_client()


@pytest.mark.usefixtures("serving")
class TestOneSlot:
    def test_waits_in_a_thread_pool_of_a_task_lend_its_slot_once(self) -> None:
        assert app.in_a_pool.send(4).result(WAIT_S) == 4

    def test_wait_in_a_thread_that_knows_no_run_lends_the_slot_too(self) -> None:
        assert app.in_a_foreign_pool.send().result(WAIT_S) == 1

    def test_awaits_in_a_loop_of_a_sync_task_lend_its_slot(self) -> None:
        assert app.by_asyncio_run.send().result(WAIT_S) == 2

    def test_wait_in_a_fork_keeps_its_timeout(self) -> None:
        assert app.in_a_fork.send().result(WAIT_S) == "TimeoutError"

    def test_blocking_wait_on_the_loop_of_async_tasks_is_refused_at_once(self) -> None:
        assert "use `await handle.wait_async()`" in app.on_the_loop.send().result(WAIT_S)

    def test_wait_in_a_thread_of_an_async_task_holds_no_slot(self) -> None:
        handles = [app.beside_the_loop.send() for _ in range(4)]
        assert [handle.result(WAIT_S) for handle in handles] == [1, 1, 1, 1]

    def test_awaiting_runs_hold_no_slot_however_many(self) -> None:
        assert app.achain.send(30).result(WAIT_S) == 30
        handles = [app.achain.send(3) for _ in range(20)]
        assert [handle.result(WAIT_S) for handle in handles] == [3] * 20

    def test_chain_of_sync_waits_beyond_the_substitutes_says_so(self) -> None:
        handle = app.chain.with_config(max_retries=0).send(4)
        assert not handle.wait(WAIT_S)
        assert "WouldDeadlock" in str(handle.task_runs[0].error)

    def test_what_threads_of_a_task_send_has_it_for_a_parent(self) -> None:
        own, *parents = app.parents_of_sent.send().result(WAIT_S)
        assert parents == [own] * 4


def test_user_code_sends_with_a_token_that_its_environment_does_not_hold(
    start_broker: StartBroker, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = start_broker(env={"HYREX_TOKEN": "secret"}).url
    monkeypatch.setenv("HYREX_BROKER_URL", url)
    monkeypatch.setenv("HYREX_TOKEN", "secret")
    # The broker's address by flag alone: tasks that send use the worker's.
    start_worker(
        APP, "-p", "1", "--broker-url", url, broker_url="grpc://127.0.0.1:1", env={"HYREX_TOKEN": "secret"}
    )
    assert app.secrets.send().result(WAIT_S) == []
    close_client()


@pytest.mark.parametrize("most", ["1", "2"])
def test_waiting_run_in_a_child_that_is_used_up_leaves_its_place_to_another(
    broker: RunningBroker, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch, most: str
) -> None:
    monkeypatch.setenv("HYREX_BROKER_URL", broker.url)
    start_worker(APP, "-p", "1", "--async-concurrency", "2", "--max-tasks-per-child", most)
    assert app.achain.send(4).result(WAIT_S) == 4
    assert app.chain.send(2).result(WAIT_S) == 2
    close_client()
