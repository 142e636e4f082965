"""A database's URL: its servers, and its parameters as libpq understands them.

A parameter that neither asyncpg nor a broker can follow is refused by name. To leave it out in silence
would give another connection than the one that was asked for.
"""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode

FORM: Final = "must be a URL like postgresql://user:password@host:5432/database"
_ESCAPE: Final = (
    "has an @ after a #, / or ?: escape the password (%23, %2F, %3F), and an @ elsewhere in the URL (%40)"
)
_URL: Final = re.compile(r"(postgres(?:ql)?)://([^/?#]*)(/[^?#]*)?(?:\?([^#]*))?")
_HOST: Final = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::(.*))?")
_NAME: Final = re.compile(r"[ !#-&(-\[\]-~]{1,50}")
"""An application_name: what Postgres gives back as it was set, with room for what a broker adds."""
_SCHEMA: Final = "a schema is named with --schema or HYREX_SCHEMA"
_REMOVE: Final = "remove it"
_LEFT_TO_ASYNCPG: Final = frozenset(
    {
        "application_name", "client_encoding", "database", "dbname", "gsslib", "host", "krbsrvname",
        "options", "passfile", "password", "port", "service", "ssl_max_protocol_version",
        "ssl_min_protocol_version", "sslcert", "sslcrl", "sslkey", "sslmode", "sslnegotiation",
        "sslpassword", "sslrootcert", "user",
    }
)  # fmt: skip
_SECONDS: Final = ("connect_timeout", "keepalives_idle", "keepalives_interval", "keepalives_count")
_NUMBERS: Final = (*_SECONDS, "keepalives", "tcp_user_timeout")
_VALUES: Final[Mapping[str, tuple[frozenset[str], str]]] = {
    "target_session_attrs": (
        frozenset({"any", "read-write", "primary"}),
        "a broker writes, and always uses a server that takes writes; use read-write, or remove it",
    ),
    "channel_binding": (
        frozenset({"disable", "prefer"}),
        "Hyrex cannot bind channels; remove it, and use sslmode=verify-full, which proves who the server is",
    ),
    "gssencmode": (frozenset({"disable", "prefer"}), "Hyrex encrypts by TLS only; use sslmode=verify-full"),
    "load_balance_hosts": (frozenset({"disable"}), "servers are tried in the order of the URL; remove it"),
    "requiressl": (frozenset({"0", "1"}), "use sslmode=require"),
    "sslcompression": (frozenset({"0"}), "Postgres compresses no TLS any more; remove it"),
    "sslsni": (frozenset({"1"}), "Hyrex always names the server in TLS; remove it"),
    "pgbouncer": (frozenset({"true", "false"}), _REMOVE),
}  # fmt: skip
"""Parameters with the values that change nothing of what a broker does, and the remedy for other values."""
_REMEDIES: Final[Mapping[str, str]] = {
    "search_path": _SCHEMA,
    "currentSchema": _SCHEMA,
    "schema": _SCHEMA,
    "hostaddr": "write the address in the place of the host's name",
    "ssl": "use sslmode",
}
_FILES: Final = ("sslcert", "sslkey", "sslrootcert", "sslcrl")
_SYSTEM: Final = "system"


@dataclass(frozen=True, slots=True)
class Probes:
    """When a silent connection counts as lost; 0 is the system's own preference."""

    enabled: bool = True
    idle_s: int = 0
    interval_s: int = 0
    count: int = 0
    user_timeout_ms: int = 0


@dataclass(frozen=True, slots=True)
class Server:
    """One server of a URL."""

    place: str
    """host:port, for people."""
    host: str
    """A name, an address or a folder of sockets; empty if none is named."""
    url: str = field(repr=False)
    """What asyncpg is given: this server alone, and what it understands."""


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """A URL that is understood."""

    servers: tuple[Server, ...]
    connect_timeout_s: int | None
    """For each server."""
    probes: Probes
    application_name: str | None

    @property
    def place(self) -> str:
        """host:port of each server, with commas; never a user or a password."""
        return ",".join(server.place for server in self.servers)


def read(url: str) -> DatabaseUrl:
    """Understand a URL. Raises ValueError with what is wrong and the remedy, without the password."""
    url, _, fragment = url.partition("#")
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError(_ESCAPE if "@" in fragment else FORM)
    scheme, authority, path, query = found.groups(default="")
    if "@" in path + fragment:
        raise ValueError(_ESCAPE)
    try:
        return _read(scheme, authority, path, query)
    except ValueError:
        if "@" in query and not ("@" in authority and path):
            # Perhaps the end of a password, whose head is in the place of a host: show nothing of it.
            raise ValueError(_ESCAPE) from None
        raise


def _read(scheme: str, authority: str, path: str, query: str) -> DatabaseUrl:
    login, at, hosts = authority.rpartition("@")
    given = _parameters(query)
    numbers = {name: _number(name, given.pop(name)) for name in _NUMBERS if name in given}
    servers = _servers(hosts, given)
    _require_known(given)
    rest = urlencode([(name, value) for name, value in _followed(given).items()])
    tail = path + ("?" + rest if rest else "")
    return DatabaseUrl(
        tuple(Server(place, host, f"{scheme}://{login}{at}{text}{tail}") for place, host, text in servers),
        numbers.get("connect_timeout") or None,
        Probes(
            bool(numbers.get("keepalives", 1)),
            *(numbers.get(name, 0) for name in (*_SECONDS[1:], "tcp_user_timeout")),
        ),
        given.get("application_name") or given.get("fallback_application_name"),
    )


def wrong_url(url: str) -> str:
    """Why a URL cannot be used, without its password; empty if it can."""
    try:
        read(url)
    except ValueError as error:
        return str(error)
    return ""


def place(url: str) -> str:
    """host:port of a URL, or several with commas; never its user or password."""
    try:
        return read(url).place
    except ValueError as error:
        return f"an invalid address ({error})"


def _parameters(query: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError:
        raise ValueError("has a parameter without `=`; " + FORM + "?name=value") from None


def _number(name: str, text: str) -> int:
    if not re.fullmatch(r"-?\d{1,9}", text):
        raise ValueError(f"has {name}={text}, which is no whole number")
    # As in libpq, what is not positive is the default.
    return max(0, int(text))


def _servers(authority: str, given: dict[str, str]) -> list[tuple[str, str, str]]:
    """Place, host and text of each server. Takes host and port out of the parameters."""
    named = given.pop("host", "")
    if authority and named:
        raise ValueError(f"names a host twice, {authority} and {named}; remove one of them")
    hosts, ports = (authority or named).split(","), given.pop("port", "").split(",")
    if len(ports) not in (1, len(hosts)):
        raise ValueError(
            f"names {len(hosts)} hosts and {len(ports)} ports; name one port for each, or one for all"
        )
    ports = ports * len(hosts) if len(ports) == 1 else ports
    return [_server(host, port, is_path=not authority) for host, port in zip(hosts, ports, strict=True)]


def _server(text: str, port: str, *, is_path: bool) -> tuple[str, str, str]:
    if is_path and text.startswith("/"):
        text = text.replace("/", "%2F")  # a folder of sockets, as asyncpg wants it in a URL's authority
    found = _HOST.fullmatch(text)
    if found is None:
        raise ValueError(f"names a host {text!r}, which is none; an IPv6 address needs brackets: [::1]:5432")
    host, own = found[1], found[2] or port
    if own and not (own.isdecimal() and 0 < int(own) < 65_536):
        raise ValueError(f"names port {own!r}, which is no number of 1 to 65535")
    shown = f"{unquote(host) or 'localhost'}:{own or 5432}"
    return shown, unquote(host).strip("[]"), f"{host}:{own}" if own else host


def _require_known(given: Mapping[str, str]) -> None:
    """Raise ValueError for a parameter that nobody follows."""
    for name, value in given.items():
        if name in _VALUES:
            allowed, remedy = _VALUES[name]
            if value not in allowed:
                raise ValueError(f"has {name}={value}: {remedy}")
        elif name not in _LEFT_TO_ASYNCPG and name != "fallback_application_name":
            remedy = _REMEDIES.get(
                name, f"{_REMOVE}; a server's setting is given as options=-c%20{name}%3Dvalue"
            )
            raise ValueError(f"has the parameter {name}, which Hyrex does not know: {remedy}")
    if re.search(r"search_path\s*=", given.get("options", "")):
        raise ValueError(f"has options that set search_path: {_SCHEMA}")
    application = given.get("application_name") or given.get("fallback_application_name")
    if application and not _NAME.fullmatch(application):
        raise ValueError(
            f"has application_name={application}: up to 50 ASCII characters, without quotes and backslashes"
        )
    for name in _FILES:
        path = given.get(name)
        if path and (name, path) != ("sslrootcert", _SYSTEM) and not Path(path).is_file():
            raise ValueError(f"has {name}={path}: there is no such file")


def _followed(given: Mapping[str, str]) -> dict[str, str]:
    """The parameters for asyncpg."""
    kept = {name: value for name, value in given.items() if name in _LEFT_TO_ASYNCPG}
    kept.pop("application_name", None)  # set with the session's other settings
    if given.get("requiressl") == "1":
        kept.setdefault("sslmode", "require")
    if kept.get("sslrootcert") == _SYSTEM:
        kept |= _system_roots(kept.get("sslmode"))
    return kept


def _system_roots(mode: str | None) -> dict[str, str]:
    """As libpq understands sslrootcert=system: the machine's own authorities, and only with verify-full."""
    if mode not in (None, "verify-full"):
        raise ValueError(f"has sslmode={mode} with sslrootcert=system, which needs sslmode=verify-full")
    if (found := ssl.get_default_verify_paths().cafile) is None:
        raise ValueError("has sslrootcert=system, and this machine has no file of authorities; name a file")
    return {"sslmode": "verify-full", "sslrootcert": found}
