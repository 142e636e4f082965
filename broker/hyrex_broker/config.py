"""The configuration of a broker process, validated when it is built."""

import ipaddress
import os
import re
import socket
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from hyrex.runtime.metrics_server import ScrapeAddress, address_of
from hyrex_broker.database_url import wrong_url
from hyrex_broker.domain.retention import RetentionTerms

DEFAULT_SCHEMA: Final = "hyrex"
SCHEMA_PATTERN: Final = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,39}")
"""Short enough for the names of NOTIFY channels (63 bytes), and the same with and without quotes."""
SCHEMA_RULE: Final = "up to 40 of a-z, 0-9 and _, beginning with neither a digit nor pg_"
MIB: Final = 1024 * 1024


def default_name() -> str:
    """A name that tells brokers apart in lists: the host and the process."""
    return f"{socket.gethostname()}-{os.getpid()}"


def split_tokens(text: str) -> list[str]:
    """Tokens between commas, without the spaces and line ends that files of secrets often have.

    Raises ValueError if there is none, or one that cannot be sent.
    """
    found = [token.strip() for token in text.split(",")]
    found = [token for token in found if token] or [""]
    if not all(token and token.isascii() and token.isprintable() for token in found):
        raise ValueError("must have visible ASCII characters only: no client could send another one")
    return found


def written(host: str, port: int) -> str:
    """host:port as gRPC writes it (an IPv6 host in brackets)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class ListenConfig(BaseModel):
    """What a broker and a gateway have in common: where they listen, and what they tell. Times are in
    seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=50051, ge=0, le=65535)
    name: str = Field(default_factory=default_name, min_length=1, max_length=255)
    drain_timeout_s: float = Field(default=10.0, ge=0.0, le=3600.0)
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    reuse_port: bool = False
    insecure: bool = False
    metrics: ScrapeAddress | None = None
    """Where Prometheus reads: host and port."""
    log_format: Literal["text", "json"] = "text"

    @field_validator("metrics", mode="before")
    @classmethod
    def _is_address(cls, given: object) -> object:
        return address_of(given) if isinstance(given, str) else given

    @model_validator(mode="after")
    def _has_whole_tls(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together; set both or neither")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError(
                "--tls-client-ca needs --tls-cert and --tls-key: there are no certificates without TLS"
            )
        return self

    @property
    def version(self) -> str:
        """Of this software."""
        try:
            return version("hyrex")
        except PackageNotFoundError:
            return "unknown"

    @property
    def is_private(self) -> bool:
        """Return True if only this machine can reach it; a name other than localhost counts as reachable."""
        try:
            return ipaddress.ip_address(self.host.partition("%")[0]).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def address(self) -> str:
        """host:port as gRPC writes it (an IPv6 host in brackets)."""
        return written(self.host, self.port)


_GRANTED: Final = 1.5


class BrokerConfig(ListenConfig):
    """Settings of one broker process. Times are in seconds."""

    database_url: str
    token: str | None = Field(default=None, min_length=1, repr=False)
    lease_duration_s: float = Field(default=10.0, ge=1.0, le=3600.0)
    """What is away for less than that (a broker, the database, the network) costs no run."""
    processes: int = Field(default=1, ge=1, le=256)
    token_file: Path | None = None  # where `token` was read from, to be read again when it changes
    payload_limit_bytes: int = Field(default=4 * MIB, ge=1, le=15 * MIB)
    retention_days: int = Field(default=7, ge=1, le=3650)
    dead_letter_days: int = Field(default=30, ge=1, le=3650)
    """For tasks that failed, timed out or were lost; at least as long as the others."""
    private_database: bool = False
    parent_pid: int | None = None  # one of several brokers: it stops when this process is gone
    database_schema: str = DEFAULT_SCHEMA
    read_database_url: str | None = None
    """A standby for lists, counts and statistics."""
    outbox_url: str | None = None
    """A database of applications with an outbox that this broker takes."""

    @property
    def granted_lease_s(self) -> float:
        """How long a session is granted at each renewal. So much longer than what may be away without harm,
        since the last renewal may be a heartbeat's interval old then, and runs are asked to stop before
        the end (rule 10): 1.5 * 0.85 - 0.2 of it are left, and a tick of the renewals."""
        return _GRANTED * self.lease_duration_s

    @property
    def retention_terms(self) -> RetentionTerms:
        """How long tasks are kept: bad ends no shorter than others."""
        finished = timedelta(days=self.retention_days)
        return RetentionTerms(finished, max(finished, timedelta(days=self.dead_letter_days)))

    @property
    def heartbeat_interval_s(self) -> float:
        """How often workers are to ask for a renewal."""
        return self.lease_duration_s / 5

    @field_validator("database_url")
    @classmethod
    def _is_postgres_url(cls, url: str) -> str:
        if problem := wrong_url(url):
            raise ValueError(problem)
        return url

    @field_validator("read_database_url")
    @classmethod
    def _is_url_of_a_standby(cls, url: str | None) -> str | None:
        if url is not None and "target_session_attrs=" in url:
            raise ValueError(
                "has target_session_attrs: a broker finds the standby of the URL itself; remove it"
            )
        return cls._is_postgres_url(url) if url is not None else None

    @field_validator("outbox_url")
    @classmethod
    def _is_url_of_an_outbox(cls, url: str | None) -> str | None:
        return cls._is_postgres_url(url) if url is not None else None

    @field_validator("database_schema")
    @classmethod
    def _is_schema(cls, name: str) -> str:
        if SCHEMA_PATTERN.fullmatch(name) is None:
            raise ValueError(f"must be {SCHEMA_RULE}")
        return name

    @field_validator("token")
    @classmethod
    def _can_be_sent(cls, token: str | None) -> str | None:
        return None if token is None else ",".join(split_tokens(token))

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.processes > 1 and self.port == 0:
            raise ValueError("several processes share one port; name it instead of port 0")
        if self.processes > 1 and self.metrics is not None and not self.metrics.port:
            raise ValueError("each process has the next port for --metrics; name the first instead of port 0")
        needed = (("TLS", self.tls_cert), ("token", self.asks_for_tokens))
        missing = [name for name, value in needed if not value]
        if missing and not self.insecure and not self.is_private:
            raise ValueError(
                f"--listen {self.host} can be reached from other machines, and there is no "
                f"{' and no '.join(missing)}: pass --tls-cert and --tls-key, and a token by HYREX_TOKEN or "
                "HYREX_TOKEN_FILE; or --insecure where something else guards the network"
            )
        return self

    @property
    def root_tokens(self) -> list[str]:
        """The tokens that may do everything."""
        return split_tokens(self.token) if self.token else []

    @property
    def asks_for_tokens(self) -> bool:
        """Return True if callers must show a token, or a certificate with the name of one."""
        return self.token is not None or self.tls_client_ca is not None


FLAGS: Final = MappingProxyType(
    {
        "database_url": "--database-url",
        "host": "--listen",
        "port": "--listen",
        "name": "--name",
        "token": "--token",
        "lease_duration_s": "--lease-duration",
        "drain_timeout_s": "--drain-timeout",
        "processes": "--processes",
        "tls_cert": "--tls-cert",
        "tls_key": "--tls-key",
        "tls_client_ca": "--tls-client-ca",
        "token_file": "--token-file",
        "reuse_port": "--reuse-port",
        "payload_limit_bytes": "--payload-limit",
        "retention_days": "--retention-days",
        "dead_letter_days": "--dead-letter-days",
        "insecure": "--insecure",
        "private_database": "--private-database",
        "metrics": "--metrics",
        "log_format": "--log-format",
        "parent_pid": "--parent",
        "database_schema": "--schema",
        "read_database_url": "--read-database-url",
        "outbox_url": "--outbox-url",
    }
)
"""The flag of each setting: what messages name, and what a parent of several brokers hands on."""
