"""A command that deletes, with a list of brokers: its call may be made twice."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from hyrex.cli.errors import CommandError
from hyrex.cli.program import program
from tests.support.scripted_tasks import refuse

METHODS = {
    "/hyrex.v1.ScheduleService/DeleteSchedule": "PEER_NOT_FOUND",
    "/hyrex.v1.QueueService/DeleteQueue": "QUEUE_NOT_FOUND",
}


class Deletes(grpc.GenericRpcHandler):
    """Two brokers of one database: the first that is asked deletes and breaks, the next finds nothing."""

    def __init__(self) -> None:
        self.asked = 0
        self.is_there = True

    def service(self, details: Any) -> Any:
        gone = METHODS.get(details.method)
        if gone is None:
            return None  # they do not say whether they serve

        def answer(request: bytes, context: Any) -> bytes:
            self.asked += 1
            if not self.is_there:
                refuse(context, grpc.StatusCode.NOT_FOUND, gone)
            self.is_there = False
            return bytes(context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke"))

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
def deletes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deletes]:
    monkeypatch.delenv("HYREX_CELLS", raising=False)
    monkeypatch.delenv("HYREX_TOKEN", raising=False)
    with ExitStack() as stack:
        found, ports = Deletes(), list[int]()
        for _ in range(2):
            server = grpc.server(stack.enter_context(ThreadPoolExecutor(4)), handlers=[found])
            ports.append(server.add_insecure_port("127.0.0.1:0"))
            server.start()
            stack.callback(_stop, server)
        monkeypatch.setenv("HYREX_BROKER_URL", ",".join(f"grpc://127.0.0.1:{port}" for port in ports))
        yield found


def _stop(server: grpc.Server) -> None:
    server.stop(None).wait(60)


@pytest.mark.parametrize("kind", ["schedule", "queue"])
def test_what_a_repeat_does_not_find_was_deleted_before(deletes: Deletes, kind: str) -> None:
    found = CliRunner().invoke(program, [kind, "delete", "x"])
    assert (found.exit_code, found.output, deletes.asked) == (0, f"deleted {kind} x\n", 2), found.exception
    missing = CliRunner().invoke(program, [kind, "delete", "x"])
    assert isinstance(missing.exception, CommandError)
    assert deletes.asked == 3
