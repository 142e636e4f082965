"""The environment variables that Hyrex reads, and which of this process are probably meant to be one."""

import os
import re
from typing import Final

import typer

from hyrex.cli.output import printable

_PREFIX: Final = "HYREX_"
KNOWN: Final = frozenset(
    _PREFIX + name
    for name in (
        "APP_DIR",
        "BROKER_URL",
        "CACHE_DIR",
        "CELLS",
        "DASHBOARD_KEY_FILE",
        "DATABASE_URL",
        "DATABASE_URL_FILE",
        "DEBUG",
        "INSECURE",
        "LINK_KEY_FILE",
        "LINK_TOKEN_FILE",
        "LOG_LEVEL",
        "OUTBOX_URL",
        "OUTBOX_URL_FILE",
        "PG_BIN",
        "READ_DATABASE_URL",
        "READ_DATABASE_URL_FILE",
        "SCHEMA",
        "SEND_TIMEOUT",
        "TEST_DATABASE_URL",
        "TLS_CERT",
        "TLS_KEY",
        "TOKEN",
        "TOKEN_FILE",
    )
)
"""Those of docs/reference/configuration.md."""
_READ: Final = KNOWN | {"HYREX_CHILD"}  # which processes of a worker have
_OF_KUBERNETES: Final = re.compile(r"_SERVICE_(HOST|PORT(_\w+)?)$|_PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?$")
"""Kubernetes gives pods some for each service, with our prefix for one that is called hyrex-broker."""


def misspelt() -> dict[str, str]:
    """Variables of this process that begin like ours and are none of them, each with the closest that is."""
    from difflib import get_close_matches  # only where something is wrong

    odd = [
        name
        for name in sorted(os.environ)
        if name.startswith(_PREFIX) and name not in _READ and not _OF_KUBERNETES.search(name)
    ]
    ours = [name.removeprefix(_PREFIX) for name in sorted(KNOWN)]
    found = {name: get_close_matches(name.removeprefix(_PREFIX), ours, 1) for name in odd}
    return {name: _PREFIX + near[0] for name, near in found.items() if near}


def warn_of_misspelt() -> None:
    """Say on stderr which variables are probably misspelt: nothing reads them."""
    for name, near in misspelt().items():
        typer.echo(printable(f"hyrex: nothing reads {name}; did you mean {near}?"), err=True)
