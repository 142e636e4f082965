"""Sockets that say nothing take no file from Postgres, and are closed: a broker with few files serves on."""

import socket
import sys
from contextlib import ExitStack
from functools import partial

import grpc
import pytest

from tests.hostile.victim import BEARER, TOKEN, Victim, code_of, open_channel, send
from tests.support.eventually import eventually
from tests.support.processes import Processes, RunningBroker

FILES = 256
SOCKETS = 300
GET = "/hyrex.v1.TaskService/GetTask"


@pytest.fixture
def poor(attacked_url: str, processes: Processes) -> Victim:
    """A broker that may open 256 files."""
    command = f"ulimit -n {FILES}; exec {sys.executable} -m hyrex_broker --listen 127.0.0.1:0"
    env = {"HYREX_DATABASE_URL": attacked_url, "HYREX_TOKEN": TOKEN}
    process = processes.start("poor broker", "bash", "-c", command, env=env)
    address = process.wait_for(r"broker ready: listening on (\S+:\d+)")[1]
    return Victim(processes, RunningBroker(process, address))


def test_silent_sockets_shut_nobody_out_for_long(poor: Victim) -> None:
    host, port = poor.address.split(":")
    with ExitStack() as stack, poor.watched() as damage:
        for _ in range(SOCKETS):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=5))
        poor.broker.process.wait_for("nearly all connections that the limit of open files allows are taken")
        assert poor.submit(1)  # who is connected notices nothing, and Postgres has its files
        # Those that said nothing are closed; there is room again while they are still open at their side.
        eventually(partial(is_served, poor.address), within_s=60)
        poor.broker.process.wait_for("there is room for connections again", 60)
    damage.is_little(peak_mib=60)
    assert "away" not in damage.said
    assert "unavailable" not in damage.said.lower()


def is_served(address: str) -> bool:
    """Return True if a new connection gets an answer."""
    with open_channel(address) as channel:
        return code_of(partial(send, channel, GET, b"", metadata=BEARER)) is grpc.StatusCode.INVALID_ARGUMENT
