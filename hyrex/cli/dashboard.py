"""`hyrex dashboard`: pages for people, as a process of their own; and the one beside `hyrex run-broker`."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final

import typer

from hyrex.cli.connection import DEFAULT_URL, BrokerUrl
from hyrex.cli.errors import CommandError, libraries_missing
from hyrex.cli.variables import warn_of_misspelt

NEEDED: Final = ("cryptography", "jinja2", "starlette", "uvicorn")
MODULE: Final = ("-P", "-m", "hyrex.dashboard")
# People bring their own tokens, and the database is the broker's.
NOT_ITS_OWN: Final = tuple(
    f"HYREX_{name}{ending}"
    for name in ("TOKEN", "DATABASE_URL", "READ_DATABASE_URL", "OUTBOX_URL")
    for ending in ("", "_FILE")
)


def dashboard(
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Port 0 picks a free one.")
    ] = "127.0.0.1:8787",
    host_name: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A name by which browsers reach it.")
    ] = None,
    prefix: Annotated[str | None, typer.Option(metavar="PATH", help="Serve below this path.")] = None,
    broker_url: BrokerUrl = DEFAULT_URL,
    trace_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Where traces are shown, with TRACE_ID in it.")
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Show, and change nothing.")] = False,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key, PEM.")] = None,
    behind_https: Annotated[
        bool, typer.Option("--behind-https", help="A proxy in front speaks TLS.")
    ] = False,
    insecure: Annotated[bool, typer.Option("--insecure", help="Listen off loopback without TLS.")] = False,
    key_file: Annotated[
        Path | None, typer.Option(help="Random text that dashboards share (HYREX_DASHBOARD_KEY_FILE).")
    ] = None,
    link_key_file: Annotated[
        Path | None, typer.Option(help="Keys of the signed links that it serves (HYREX_LINK_KEY_FILE).")
    ] = None,
    link_token_file: Annotated[
        Path | None,
        typer.Option(help="The token with which it does what they say (HYREX_LINK_TOKEN_FILE)."),
    ] = None,
) -> None:
    """Serve the dashboard until SIGTERM or Ctrl-C."""
    warn_of_misspelt()
    require_libraries()
    flags = {
        "--broker-url": broker_url,
        "--listen": listen,
        "--prefix": prefix,
        "--trace-url": trace_url,
        "--tls-cert": tls_cert,
        "--tls-key": tls_key,
        "--key-file": key_file,
        "--link-key-file": link_key_file,
        "--link-token-file": link_token_file,
    }
    switches = {"--read-only": read_only, "--behind-https": behind_https, "--insecure": insecure}
    arguments = [part for flag, value in flags.items() if value is not None for part in (flag, str(value))]
    arguments += [part for name in host_name or () for part in ("--host-name", name)]
    arguments += [flag for flag, on in switches.items() if on]
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *MODULE, *arguments], environment())


def start_beside(listen: str, port: int, tls: bool) -> None:
    """Start a dashboard on loopback for the broker that this process becomes; it ends with this process.

    Raises: CommandError where it would not find that broker.
    """
    require_libraries()
    host, _, broker_port = listen.rpartition(":")
    url = os.environ.get("HYREX_BROKER_URL")
    if url is None and (tls or broker_port == "0"):
        raise CommandError(
            "--dashboard: set HYREX_BROKER_URL to the address at which it finds this broker", 2
        )
    reached = "localhost" if host in ("0.0.0.0", "[::]", "*") else host
    subprocess.Popen(
        [
            *(sys.executable, *MODULE, "--listen", f"127.0.0.1:{port}"),
            *("--broker-url", url or f"grpc://{reached}:{broker_port}", "--parent", str(os.getpid())),
        ],
        # What goes to this machine's own address crosses no network, whichever of its addresses it is.
        env=environment() | ({} if url else {"HYREX_INSECURE": "1"}),
        stdin=subprocess.DEVNULL,
    )


def installed() -> bool:
    """True if the dashboard's libraries are there."""
    return all(find_spec(name) is not None for name in NEEDED)


def require_libraries() -> None:
    """Raises: CommandError where they are not."""
    if not installed():
        raise libraries_missing("dashboard")


def environment() -> dict[str, str]:
    """What the dashboard's process may know."""
    return {name: value for name, value in os.environ.items() if name not in NOT_ITS_OWN}
