"""What a system can be given beside what it needs: tokens, metrics, TLS.

Tokens: the broker asks for them, and sender and worker have one that is stored in the database, for one
queue. Metrics: of broker and worker, read once a second. TLS: between all of them, with a certificate that
the clients check.
"""

import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Final

import grpc

from benchmarks.processes import ROOT
from benchmarks.stage import Broker, free_port
from hyrex.transport.token import bearer_metadata
from hyrex.v1 import admin_service_pb2, admin_service_pb2_grpc

QUEUE: Final = "bench"
SCRAPED_EVERY_S: Final = 1.0
WITHIN_S: Final = 60.0
_TLS: Final = ROOT / "tests" / "support" / "tls"
ROOT_TOKEN: Final = "root-of-the-benchmarks"
_SCOPES: Final = (
    admin_service_pb2.TOKEN_SCOPE_SUBMIT,
    admin_service_pb2.TOKEN_SCOPE_WORK,
    admin_service_pb2.TOKEN_SCOPE_READ,
)


@dataclass(frozen=True, slots=True)
class Guard:
    """What a system is given beside what it needs; this one gives nothing."""

    def broker_flags(self) -> tuple[str, ...]:
        """Further flags of the broker."""
        return ()

    def broker_env(self) -> Mapping[str, str]:
        """Further variables of the broker."""
        return {}

    def worker_flags(self) -> tuple[str, ...]:
        """Further flags of the worker."""
        return ()

    def client_env(self, broker: Broker) -> dict[str, str]:
        """Further variables of worker and sender."""
        return {}

    def around(self) -> AbstractContextManager[None]:
        """What goes on during a round."""
        return nullcontext()


NO_GUARD: Final = Guard()


class WithTokens(Guard):
    """A token of one queue for sender and worker."""

    def broker_env(self) -> Mapping[str, str]:
        return {"HYREX_TOKEN": ROOT_TOKEN}

    def worker_flags(self) -> tuple[str, ...]:
        return ("--queue", QUEUE)

    def client_env(self, broker: Broker) -> dict[str, str]:
        request = admin_service_pb2.CreateTokenRequest(name=QUEUE, scopes=_SCOPES, queue_patterns=[QUEUE])
        with grpc.insecure_channel(broker.address) as channel:
            made = admin_service_pb2_grpc.AdminServiceStub(channel).CreateToken(
                request, metadata=bearer_metadata(ROOT_TOKEN), timeout=WITHIN_S
            )
        return {"HYREX_TOKEN": made.secret}


@dataclass(frozen=True, slots=True)
class WithMetrics(Guard):
    """Metrics of broker and worker, with somebody who reads them."""

    broker_port: int = field(default_factory=free_port)
    worker_port: int = field(default_factory=free_port)

    def broker_flags(self) -> tuple[str, ...]:
        return ("--metrics", f"127.0.0.1:{self.broker_port}")

    def worker_flags(self) -> tuple[str, ...]:
        return ("--metrics", f"127.0.0.1:{self.worker_port}")

    @contextmanager
    def around(self) -> Iterator[None]:
        ended = threading.Event()
        reader = threading.Thread(target=self._read_until, args=(ended,))
        reader.start()
        try:
            yield
        finally:
            ended.set()
            reader.join()

    def _read_until(self, ended: threading.Event) -> None:
        while True:
            for port in (self.broker_port, self.worker_port):
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=WITHIN_S) as answer:
                    answer.read()
            if ended.wait(SCRAPED_EVERY_S):
                return


class WithTls(Guard):
    """TLS, whose certificate the clients check."""

    def broker_flags(self) -> tuple[str, ...]:
        return ("--tls-cert", str(_TLS / "server.crt"), "--tls-key", str(_TLS / "server.key"))

    def client_env(self, broker: Broker) -> dict[str, str]:
        return {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(_TLS / "ca.crt")}
