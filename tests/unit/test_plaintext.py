"""A token crosses no network unencrypted, unless somebody says that it may."""

import asyncio

import pytest

from hyrex.cli.connection import ask
from hyrex.cli.errors import CommandError
from hyrex.client.remote import RemoteBackend
from hyrex.config import Settings
from hyrex.transport.channel import open_channel
from hyrex.worker.shared.options import WorkerOptions

OUTSIDE = [
    "grpc://broker:50051",
    "grpc://10.0.0.1",
    "grpc://[2001:db8::1]:50051",
    "grpc://localhost,grpc://a",
]
INSIDE = ["grpc://localhost", "grpc://127.0.0.9:1", "grpc://[::1]:50051", "grpcs://broker:50051"]


@pytest.mark.parametrize("url", OUTSIDE)
def test_no_client_sends_its_token_in_the_clear(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = pytest.raises(ValueError, match="the token would cross the network unencrypted to grpc://")
    with refused:
        RemoteBackend(Settings(broker_url=url, token="secret"))
    with refused:
        WorkerOptions(target="app", broker_url=url, token="secret").resolved()
    monkeypatch.setenv("HYREX_TOKEN", "secret")
    with pytest.raises(CommandError, match="would cross the network unencrypted"):
        ask(url, lambda channel: asyncio.sleep(0))
    monkeypatch.setenv("HYREX_INSECURE", "1")
    assert WorkerOptions(target="app", broker_url=url, token="secret").resolved().token == "secret"


@pytest.mark.parametrize("url", INSIDE)
def test_a_token_goes_to_this_machine_or_over_tls(url: str) -> None:
    assert WorkerOptions(target="app", broker_url=url, token="secret").resolved().token == "secret"
    assert WorkerOptions(target="app", broker_url="grpc://broker:50051").resolved().token == ""


async def test_a_channel_with_a_token_is_not_opened_in_the_clear() -> None:
    with pytest.raises(ValueError, match="unencrypted"):
        open_channel("grpc://broker:50051", "secret")
    await open_channel("grpc://broker:50051").close()
