"""`python -m hyrex_broker.gateway`: reads flags and environment, runs a gateway, says in a line why it ended.

Exit status: 0 stopped as asked, 2 bad configuration, 5 the address cannot be listened on, 1 anything else.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from hyrex_broker import hangup, logs, open_files
from hyrex_broker.command import (
    BAD_CONFIG,
    NO_ADDRESS,
    OK,
    BadConfig,
    end_with,
    listen_address,
    problem_text,
    run_loop,
    software_version,
)
from hyrex_broker.gateway.config import FLAGS, GatewayConfig

# gRPC's core writes lines of its own to stderr; the gateway itself logs what matters.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a gateway until it is told to stop; return the exit status."""
    try:
        config = configure(sys.argv[1:] if arguments is None else arguments, os.environ)
    except BadConfig as error:
        return end_with(BAD_CONFIG, str(error), program="gateway")
    logs.configure(json_of=config.name if config.log_format == "json" else None)
    open_files.raise_limit()
    hangup.ignore_without_terminal()
    from hyrex_broker.gateway.serving import run_gateway
    from hyrex_broker.service.certificates import BindError

    try:
        run_loop(run_gateway(config))
    except BindError as error:
        return end_with(NO_ADDRESS, str(error), program="gateway")
    except KeyboardInterrupt:
        return OK
    return OK


def configure(arguments: Sequence[str], environment: Mapping[str, str]) -> GatewayConfig:
    """The configuration, flags over environment. Raises BadConfig."""
    given = {key: value for key, value in vars(_parser().parse_args(arguments)).items() if value is not None}
    if cells := environment.get("HYREX_CELLS"):
        given.setdefault("cells", cells)
    if "cells" not in given:
        raise BadConfig(
            "no cells are named; pass --cells or set HYREX_CELLS, as in 'video*=grpc://host:50051;*=grpc://other:50051'"
        )
    if "listen" in given:
        given["host"], given["port"] = listen_address(given.pop("listen"))
    try:
        return GatewayConfig(**given)
    except ValidationError as error:
        raise BadConfig("; ".join(problem_text(each, FLAGS, ()) for each in error.errors())) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hyrex_broker.gateway", description="Run a Hyrex gateway."
    )
    add = parser.add_argument
    add("--version", action="version", version=f"hyrex {software_version()}")
    add("--cells", metavar="ROUTES", help="PATTERN=URL;...;*=URL (HYREX_CELLS)")
    add("--listen", metavar="HOST:PORT", help="default 127.0.0.1:50051; port 0 picks a free one")
    add("--name", help="a name for people; default host-pid")
    add(
        "--require-token",
        action="store_const",
        const=True,
        help="refuse calls without a token that a cell knows",
    )
    add("--insecure", action="store_const", const=True, help="listen off loopback without TLS and token")
    add("--drain-timeout", dest="drain_timeout_s", metavar="S", help="for calls to end at the end (10)")
    add(
        "--max-connection-age",
        dest="max_connection_age_s",
        metavar="S",
        help="then clients connect anew, maybe elsewhere (off)",
    )
    add("--reuse-port", action="store_const", const=True, help="share the port with other processes")
    add("--tls-cert", metavar="FILE", help="certificate chain, PEM")
    add("--tls-key", metavar="FILE", help="its key, PEM")
    add("--tls-client-ca", metavar="FILE", help="clients must have a certificate of this authority, PEM")
    add("--metrics", metavar="HOST:PORT", help="where Prometheus reads; without a host, the loopback")
    add("--log-format", choices=("text", "json"), help="how lines are logged (text)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
