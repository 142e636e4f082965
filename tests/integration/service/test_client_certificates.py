"""Brokers that ask for client certificates: whose are let in, and as whom; and files that are replaced."""

import json
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from hyrex.v1 import queue_service_pb2, queue_service_pb2_grpc, task_service_pb2, task_service_pb2_grpc
from tests.protocol_abuse.abuser import reason_of
from tests.support.process import ROOT as CHECKOUT
from tests.support.processes import Processes, RunningBroker
from tests.support.tokens import bearer

TLS = CHECKOUT / "tests/support/tls"
TOKEN = "root-of-these-tests"
WITHIN_S = 60.0


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The broker's own TLS files."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("server.crt", "server.key", "ca.crt"):
        shutil.copy(TLS / name, folder)
    return folder


@pytest.fixture(scope="module")
def broker(shared_url: str, files: Path) -> Iterator[RunningBroker]:
    owner = Processes()
    flags = [
        *("--tls-cert", str(files / "server.crt"), "--tls-key", str(files / "server.key")),
        *("--tls-client-ca", str(files / "ca.crt")),
    ]
    yield owner.broker(shared_url, *flags, env={"HYREX_TOKEN": TOKEN})
    owner.end()


def connected(broker: RunningBroker, client: str | None) -> grpc.Channel:
    """A connection with this client's certificate."""
    pair = [(TLS / f"{client}.{kind}").read_bytes() for kind in ("key", "crt")] if client else [None, None]
    credentials = grpc.ssl_channel_credentials((TLS / "ca.crt").read_bytes(), *pair)
    return grpc.secure_channel(broker.address, credentials, (("grpc.use_local_subchannel_pool", 1),))


def lists(channel: grpc.Channel, metadata: Any = ()) -> None:
    stub = queue_service_pb2_grpc.QueueServiceStub(channel)
    stub.ListQueues(queue_service_pb2.ListQueuesRequest(), metadata=metadata, timeout=WITHIN_S)


def cancels(channel: grpc.Channel) -> None:
    stub = task_service_pb2_grpc.TaskServiceStub(channel)
    stub.CancelTasks(task_service_pb2.CancelTasksRequest(), timeout=WITHIN_S)


def hyrex(broker: RunningBroker, *arguments: str) -> Any:
    """A command that connects with a client certificate."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "HYREX_BROKER_URL": f"grpcs://{broker.address}",
        "HYREX_TOKEN": TOKEN,
        "HYREX_TLS_CERT": str(TLS / "client.crt"),
        "HYREX_TLS_KEY": str(TLS / "client.key"),
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(TLS / "ca.crt"),
    }
    command = [sys.executable, "-m", "hyrex.cli", *arguments, "--json"]
    done = subprocess.run(command, env=environment, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("client", [None, "stranger"])
def test_nobody_comes_in_without_a_certificate_of_the_authority(
    broker: RunningBroker, client: str | None
) -> None:
    """Not even with a token that may do everything."""
    with connected(broker, client) as channel, pytest.raises(grpc.RpcError) as caught:
        lists(channel, bearer(TOKEN))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_certificate_has_the_rights_of_the_token_of_its_name(broker: RunningBroker) -> None:
    with connected(broker, "client") as channel:
        lists(channel, bearer(TOKEN))
        with pytest.raises(grpc.RpcError) as nameless:
            cancels(channel)
        assert reason_of(nameless.value) == "TOKEN_INVALID"
        assert "'billing.internal'" in str(nameless.value.details())
        made = hyrex(broker, "token", "create", "billing.internal", "--scope", "submit")
        assert made["name"] == "billing.internal"
        cancels(channel)
        with pytest.raises(grpc.RpcError) as beyond:
            lists(channel)
        assert reason_of(beyond.value) == "RIGHT_MISSING"
        with pytest.raises(grpc.RpcError) as forged:
            lists(channel, bearer("wrong"))
        assert reason_of(forged.value) == "TOKEN_INVALID"
        hyrex(broker, "token", "revoke", "billing.internal")
        with pytest.raises(grpc.RpcError) as revoked:
            cancels(channel)
        assert reason_of(revoked.value) == "TOKEN_INVALID"
    entries = hyrex(broker, "audit", "list", "--who", "root")["entries"]
    assert [entry["action"] for entry in entries] == ["token.revoke", "token.create"]
    assert made["secret"] not in str(entries)
    newest = hyrex(broker, "audit", "list", "--who", "root", "--limit", "1")
    older = hyrex(broker, "audit", "list", "--who", "root", "--limit", "1", "--page", newest["next_page"])
    assert newest["entries"] + older["entries"] == entries


def test_certificates_are_replaced_without_a_restart(broker: RunningBroker, files: Path) -> None:
    """A pair that does not fit together, as in the middle of a replacement, changes nothing."""
    host, _, port = broker.address.rpartition(":")

    def served() -> str:
        return ssl.get_server_certificate((host, int(port))).strip()

    old, new = ((TLS / name).read_text().strip() for name in ("server.crt", "server-2.crt"))
    with connected(broker, "client") as before:
        lists(before, bearer(TOKEN))
        assert served() == old
        shutil.copy(TLS / "server-2.crt", files / "server.crt")
        assert served() == old
        shutil.copy(TLS / "server-2.key", files / "server.key")
        assert served() == new
        lists(before, bearer(TOKEN))
    assert "new TLS files cannot be used" in broker.process.output
    with connected(broker, "client") as after:
        lists(after, bearer(TOKEN))
