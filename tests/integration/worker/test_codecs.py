"""Payloads of codecs through a real broker, a real worker and a store, also where a key is missing."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from hyrex import HyrexApp, HyrexRegistry, TaskFailed, TaskHandle, send_many
from hyrex.client.process import close_client
from hyrex.contrib.compressed import Compressed
from hyrex.contrib.encrypted import Encrypted
from hyrex.contrib.stored import Stored
from tests.support.eventually import eventually
from tests.support.processes import RunningBroker, StartWorker

TARGET: Final = "tests.integration.worker.codec_app:app"
WAIT_S: Final = 60.0


def sender(store: Path, keys: str) -> Any:
    """The app's tasks, as a service knows them that has these keys."""
    hy = HyrexRegistry()
    named = {name: name.encode() * 32 for name in keys}
    app = HyrexApp(
        "sender", codec=[Compressed(), Encrypted(named), Stored(f"file://{store}", above_bytes=10_000)]
    )
    app.add_registry(hy)

    @hy.remote()
    def echo(text: str) -> str:
        raise NotImplementedError

    @hy.remote()
    async def echo_later(text: str) -> str:
        raise NotImplementedError

    return echo, echo_later


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture(autouse=True)
def _sending(broker: RunningBroker, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HYREX_BROKER_URL", broker.url)
    yield
    close_client()


def shown(task: TaskHandle[Any], url: str) -> Any:
    """What `hyrex task get` shows."""
    command = [sys.executable, "-m", "hyrex.cli", "task", "get", str(task.id), "--json", "--broker-url", url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=WAIT_S)
    return json.loads(done.stdout)


def test_arguments_and_results_pass_through_and_nobody_else_reads_them(
    broker: RunningBroker, start_worker: StartWorker, store: Path
) -> None:
    echo, echo_later = sender(store, "b")
    start_worker(TARGET, "-p", "1", broker_url=broker.url, env={"KEYS": "b", "STORE": str(store)})
    noise = os.urandom(3_000_000).hex()  # six megabytes, which no payload may have
    texts = ["small", "medium " * 10_000, noise]
    handles = send_many([task.call(text) for task in (echo, echo_later) for text in texts])
    assert [handle.result(WAIT_S) for handle in handles] == texts * 2
    told = shown(handles[0], broker.url)
    assert told["payload"]["codec"] == "zlib+aes-gcm+stored"
    assert told["runs"][-1]["result"]["hyrex.codec"] == "zlib+aes-gcm+stored"
    assert "small" not in json.dumps(told["payload"]) + json.dumps(told["runs"])


def test_a_key_that_a_worker_lacks_waits_for_one_that_has_it_and_a_deleted_object_is_final(
    broker: RunningBroker, start_worker: StartWorker, store: Path
) -> None:
    echo, _ = sender(store, "n")
    env = {"KEYS": "o", "STORE": str(store)}
    old = start_worker(TARGET, "-p", "1", broker_url=broker.url, env=env)
    waiting = echo.send("for the new key")
    gone = echo.send(os.urandom(50_000).hex())

    def reasons() -> list[str]:
        for handle in (waiting, gone):
            handle.refresh()
        told = [run.reason for handle in (waiting, gone) for run in handle.task_runs[:1]]
        return told if len(told) == 2 and all(told) else []

    said = eventually(reasons)
    assert "encrypted with the key 'n', and this process has o" in said[0]
    old.terminate()
    shutil.rmtree(store)
    start_worker(TARGET, "-p", "1", broker_url=broker.url, env={"KEYS": "no", "STORE": str(store)})
    assert waiting.result(WAIT_S) == "for the new key"
    with pytest.raises(TaskFailed, match="no longer in the store") as failed:
        gone.result(WAIT_S)
    assert failed.value.type == "PayloadUnreadable"
