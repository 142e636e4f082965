"""The configuration of a gateway process, validated when it is built."""

from types import MappingProxyType
from typing import Final, Self

from pydantic import Field, model_validator

from hyrex.cells import CellRoutes, parse_cells, trusted_cells
from hyrex_broker.config import ListenConfig

_A_TOKEN: Final = "of callers"


class GatewayConfig(ListenConfig):
    """Settings of one gateway process. Times are in seconds."""

    cells: str = Field(min_length=1)
    require_token: bool = False
    max_connection_age_s: float | None = Field(default=None, ge=1.0, le=86400.0)
    """After it a connection takes no new calls: its client makes another, maybe to a newer gateway."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if not self.insecure and not self.is_private and self.tls_cert is None:
            raise ValueError(
                f"--listen {self.host} can be reached from other machines, and there is no TLS: pass"
                " --tls-cert and --tls-key; or --insecure where something else guards the network"
            )
        if self.insecure:
            parse_cells(self.cells)
        else:
            trusted_cells(self.cells, _A_TOKEN)
        return self

    @property
    def routes(self) -> CellRoutes:
        """The cells."""
        return parse_cells(self.cells)

    @property
    def asks_for_tokens(self) -> bool:
        """Return True if calls need a token that a cell knows; otherwise each cell decides by itself."""
        return self.require_token or not (self.insecure or self.is_private)


FLAGS: Final = MappingProxyType(
    {
        "cells": "--cells",
        "require_token": "--require-token",
        "host": "--listen",
        "port": "--listen",
        "name": "--name",
        "drain_timeout_s": "--drain-timeout",
        "tls_cert": "--tls-cert",
        "tls_key": "--tls-key",
        "tls_client_ca": "--tls-client-ca",
        "reuse_port": "--reuse-port",
        "max_connection_age_s": "--max-connection-age",
        "insecure": "--insecure",
        "metrics": "--metrics",
        "log_format": "--log-format",
    }
)
"""The flag of each setting, for messages."""
