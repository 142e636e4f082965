"""`hyrex gateway`: one address in front of several cells, for clients of other languages."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from hyrex.cli.errors import libraries_missing
from hyrex.cli.run_broker import LogFormat
from hyrex.cli.variables import warn_of_misspelt


def gateway(
    cells: Annotated[
        str | None, typer.Option(metavar="ROUTES", help="'video*=grpc://host:50051;*=...' (HYREX_CELLS)")
    ] = None,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Port 0 picks a free one.")
    ] = "127.0.0.1:50051",
    name: Annotated[str | None, typer.Option(help="A name for people (host-pid).")] = None,
    require_token: Annotated[
        bool, typer.Option("--require-token", help="Refuse calls without a token that a cell knows.")
    ] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen off loopback without TLS and token.")
    ] = False,
    drain_timeout: Annotated[float, typer.Option(help="Seconds for calls to end at the end.")] = 10.0,
    max_connection_age: Annotated[
        float | None, typer.Option(metavar="S", help="Then clients connect anew, maybe elsewhere (off).")
    ] = None,
    reuse_port: Annotated[
        bool, typer.Option("--reuse-port", help="Share the port with other processes.")
    ] = False,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key, PEM.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="Clients must have a certificate of this authority, PEM.")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where Prometheus reads (off).")
    ] = None,
    log_format: Annotated[LogFormat, typer.Option(help="How lines are logged.")] = "text",
) -> None:
    """Run a gateway to several cells until SIGTERM or Ctrl-C."""
    warn_of_misspelt()
    if find_spec("hyrex_broker") is None or find_spec("asyncpg") is None:
        raise libraries_missing("broker")
    given = {
        "--cells": cells,
        "--listen": listen,
        "--name": name,
        "--drain-timeout": drain_timeout,
        "--max-connection-age": max_connection_age,
        "--tls-cert": tls_cert,
        "--tls-key": tls_key,
        "--tls-client-ca": tls_client_ca,
        "--metrics": metrics,
        "--log-format": log_format if log_format != "text" else None,
    }
    flags = {"--require-token": require_token, "--insecure": insecure, "--reuse-port": reuse_port}
    arguments = [part for flag, value in given.items() if value is not None for part in (flag, str(value))]
    arguments += [flag for flag, wanted in flags.items() if wanted]
    sys.stdout.flush()
    command = [sys.executable, "-P", "-m", "hyrex_broker.gateway", *arguments]
    os.execve(sys.executable, command, dict(os.environ))
