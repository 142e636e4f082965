"""A gateway's settings: flags win over the environment, and what would be open to others is refused."""

import pytest

from hyrex_broker.command import BadConfig
from hyrex_broker.gateway.__main__ import configure

ROUTES = "video*=grpc://localhost:1;*=grpc://localhost:2"
SECURE = "*=grpcs://broker.example.org"
OPEN = ("--listen", "0.0.0.0:50051")
TLS = ("--tls-cert", "c.pem", "--tls-key", "k.pem")


def test_flags_win_over_the_environment() -> None:
    config = configure(["--cells", SECURE], {"HYREX_CELLS": ROUTES})
    assert (config.cells, config.address, config.asks_for_tokens) == (SECURE, "127.0.0.1:50051", False)
    assert [each.name for each in configure([], {"HYREX_CELLS": ROUTES}).routes.cells] == ["video*", "*"]


def test_every_flag_reaches_its_field() -> None:
    flags = "--listen [::1]:7000 --name g --drain-timeout 3 --reuse-port --require-token --tls-client-ca ca"
    config = configure(
        [*flags.split(), *TLS, "--metrics", "9000", "--log-format", "json"], {"HYREX_CELLS": ROUTES}
    )
    assert (config.address, config.name, config.drain_timeout_s) == ("[::1]:7000", "g", 3.0)
    assert (config.reuse_port, config.require_token, config.log_format) == (True, True, "json")
    assert (str(config.tls_cert), str(config.tls_key), str(config.tls_client_ca)) == ("c.pem", "k.pem", "ca")
    assert configure(["--max-connection-age", "60"], {"HYREX_CELLS": ROUTES}).max_connection_age_s == 60
    assert config.metrics is not None
    assert config.metrics.port == 9000


def test_off_loopback_calls_need_tls_and_a_token() -> None:
    with pytest.raises(BadConfig, match="there is no TLS"):
        configure([*OPEN], {"HYREX_CELLS": SECURE})
    assert configure([*OPEN, *TLS], {"HYREX_CELLS": SECURE}).asks_for_tokens
    assert not configure([*OPEN, "--insecure"], {"HYREX_CELLS": SECURE}).asks_for_tokens


@pytest.mark.parametrize(
    ("routes", "named"),
    [
        ("", "no cells are named; pass --cells or set HYREX_CELLS"),
        ("video*=grpc://localhost:1", "no cell for queues that no pattern matches"),
        ("*=localhost", "HYREX_CELLS, pattern '\\*'"),
        ("*=grpc://broker.example.org", "would cross the network unencrypted"),
    ],
)
def test_routes_that_cannot_be_used_are_named(routes: str, named: str) -> None:
    with pytest.raises(BadConfig, match=named):
        configure([], {"HYREX_CELLS": routes})
