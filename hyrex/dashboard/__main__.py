"""`python -m hyrex.dashboard`: reads flags and environment, serves until it is told to stop.

Exit status: 0 stopped as asked, 2 an option cannot be used.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from hyrex.config import DEFAULT_BROKER_URL, usable_token
from hyrex.dashboard.options import DashboardOptions, OptionsUnusable, checked
from hyrex.links import read_keys

# gRPC's core writes lines of its own to stderr; the pages say what matters.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

OK: Final = 0
BAD_OPTIONS: Final = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve; return the exit status."""
    try:
        given = _parser().parse_args(arguments)
        options = checked(options_of(given, os.environ))
        from hyrex.dashboard.serving import serve

        serve(options, given.parent)
    except OptionsUnusable as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_OPTIONS
    except KeyboardInterrupt:
        pass
    return OK


def options_of(given: argparse.Namespace, environment: Mapping[str, str]) -> DashboardOptions:
    """The options of flags and environment. Raises: OptionsUnusable."""
    host, _, port = given.listen.rpartition(":")
    url = given.broker_url or environment.get("HYREX_BROKER_URL")
    if not url and environment.get("HYREX_CELLS"):
        raise OptionsUnusable(
            "HYREX_CELLS has several cells, and a dashboard shows one: say which with --broker-url"
        )
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise OptionsUnusable(f"--listen {given.listen}: must be HOST:PORT, like 127.0.0.1:8787")
    return DashboardOptions(
        broker_url=url or DEFAULT_BROKER_URL,
        host=host.removeprefix("[").removesuffix("]"),
        port=int(port),
        host_names=tuple(given.host_name),
        prefix=given.prefix.rstrip("/"),
        read_only=given.read_only,
        insecure=given.insecure,
        behind_https=given.behind_https,
        tls_cert=given.tls_cert,
        tls_key=given.tls_key,
        trace_url=given.trace_url,
        key=_key(given.key_file, environment),
        link_keys=_link_keys(given.link_key_file, environment),
        link_token=_link_token(given.link_token_file, environment),
    )


def _key(file: Path | None, environment: Mapping[str, str]) -> str | None:
    path = file or (environment.get("HYREX_DASHBOARD_KEY_FILE") or None)
    if path is None:
        return None
    try:
        key = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise OptionsUnusable(f"--key-file {path}: cannot be read ({error})") from None
    if len(key) < 32:
        raise OptionsUnusable(f"--key-file {path}: needs at least 32 characters of random text")
    return key


def _link_keys(file: Path | None, environment: Mapping[str, str]) -> tuple[str, ...]:
    path = file or (environment.get("HYREX_LINK_KEY_FILE") or None)
    if path is None:
        return ()
    try:
        return read_keys(path)
    except ValueError as error:
        raise OptionsUnusable(f"--link-key-file {error}") from None


def _link_token(file: Path | None, environment: Mapping[str, str]) -> str | None:
    path = file or (environment.get("HYREX_LINK_TOKEN_FILE") or None)
    if path is None:
        return None
    try:
        return usable_token("the token", Path(path).read_text(encoding="utf-8").strip())
    except (OSError, ValueError) as error:
        raise OptionsUnusable(f"--link-token-file {path}: {error}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hyrex.dashboard", allow_abbrev=False)
    parser.add_argument("--listen", default="127.0.0.1:8787", metavar="HOST:PORT")
    parser.add_argument("--broker-url", default="")
    parser.add_argument("--host-name", action="append", default=[])
    parser.add_argument("--prefix", default="")
    parser.add_argument("--trace-url", default="")
    parser.add_argument("--read-only", action="store_true")
    parser.add_argument("--insecure", action="store_true")
    parser.add_argument("--behind-https", action="store_true")
    parser.add_argument("--tls-cert", type=Path)
    parser.add_argument("--tls-key", type=Path)
    parser.add_argument("--key-file", type=Path)
    parser.add_argument("--link-key-file", type=Path)
    parser.add_argument("--link-token-file", type=Path)
    parser.add_argument("--parent", type=int)
    return parser


if __name__ == "__main__":
    sys.exit(main())
