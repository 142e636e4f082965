"""A database's URL is understood as libpq understands it, or refused by the name of what is not."""

import ssl
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from hyrex_broker.database_url import Probes, place, read, wrong_url

URL = "postgresql://u:secret@a:1,b/db"


def test_a_url_is_taken_apart_into_its_servers() -> None:
    found = read(f"{URL}?sslmode=require&application_name=y&pgbouncer=true")
    assert [server.url for server in found.servers] == [
        "postgresql://u:secret@a:1/db?sslmode=require",
        "postgresql://u:secret@b/db?sslmode=require",
    ]
    assert (found.place, found.application_name) == ("a:1,b:5432", "y")
    assert "secret" not in repr(found)


@pytest.mark.parametrize(
    ("url", "hosts", "shown"),
    [
        ("postgresql://[::1]:5433,[fe80::1]/db", ["::1", "fe80::1"], "[::1]:5433,[fe80::1]:5432"),
        ("postgresql://u:p@/db?host=a,b&port=1,2", ["a", "b"], "a:1,b:2"),
        ("postgresql:///db?host=/run/pg", ["/run/pg"], "/run/pg:5432"),
        ("postgresql://%2Frun%2Fpg/db", ["/run/pg"], "/run/pg:5432"),
        ("postgres:///db", [""], "localhost:5432"),
    ],
)
def test_every_form_of_a_host_has_a_name_in_messages(url: str, hosts: list[str], shown: str) -> None:
    assert ([server.host for server in read(url).servers], place(url)) == (hosts, shown)


def test_times_are_those_of_libpq() -> None:
    names = ("keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout")
    query = "&".join(f"{name}={value}" for value, name in enumerate(names, 1))
    found = read(f"{URL}?connect_timeout=10&keepalives=1&{query}")
    assert (found.connect_timeout_s, found.probes) == (10, Probes(True, 1, 2, 3, 4))
    assert read(f"{URL}?connect_timeout=0&keepalives=0").connect_timeout_s is None
    assert not read(f"{URL}?keepalives=0").probes.enabled
    assert read(f"{URL}?connect_timeout=-1").connect_timeout_s is None


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("connect_timeout=soon", "connect_timeout=soon, which is no whole number"),
        ("target_session_attrs=standby", "target_session_attrs=standby: a broker writes.*read-write"),
        ("channel_binding=require", "channel_binding=require: .*sslmode=verify-full"),
        ("gssencmode=require", "gssencmode=require: .*TLS"),
        ("load_balance_hosts=random", "load_balance_hosts=random: .*order"),
        ("search_path=cellx,public", "search_path.*--schema or HYREX_SCHEMA"),
        ("currentSchema=cellx", "currentSchema.*--schema or HYREX_SCHEMA"),
        ("options=-c%20search_path%3Dcellx", "options that set search_path: .*--schema"),
        ("hostaddr=10.0.0.1", "hostaddr.*in the place of the host"),
        ("pool_timeout=5", "pool_timeout, which Hyrex does not know: remove it"),
        ("application_name=it's", "application_name=it's: up to 50"),
        ("sslrootcert=/absent.pem", "sslrootcert=/absent.pem: there is no such file"),
        ("sslrootcert=system&sslmode=require", "sslmode=require with sslrootcert=system"),
        ("host=c", "names a host twice, a:1,b and c"),
        ("port=1,2,3", "2 hosts and 3 ports"),
        ("sslmode", "a parameter without `=`"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name_with_the_remedy(query: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as refused:
        read(f"{URL}?{query}")
    assert "secret" not in wrong_url(f"{URL}?{query}") == str(refused.value)


def test_system_authorities_are_used_as_libpq_uses_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bundle := tmp_path / "roots.pem").touch()
    found = ssl.get_default_verify_paths()._replace(cafile=str(bundle))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: found)
    (server,) = read("postgresql://a/db?sslrootcert=system").servers
    assert parse_qs(urlsplit(server.url).query) == {"sslrootcert": [str(bundle)], "sslmode": ["verify-full"]}


@pytest.mark.parametrize("url", ["mysql://a/b", "a:5432/db", "postgresql://[::1/db", "postgresql://::1/db"])
def test_an_address_that_is_none_is_said_to_be_none(url: str) -> None:
    assert wrong_url(url)
    assert place(url).startswith("an invalid address (")


@pytest.mark.parametrize("rest", ["#tail", "/tail", "?tail", "?tail=1", "1@/tail", "1@x?tail=1", "12/tail"])
def test_nothing_is_shown_of_a_password_that_is_not_escaped(rest: str) -> None:
    url = f"postgresql://u:12{rest}@host/db"
    told = wrong_url(url)
    assert "escape the password (%23, %2F, %3F)" in told
    assert "tail" not in told
    assert "tail" not in place(url)
    assert "12" not in told


def test_an_at_sign_in_a_parameter_is_what_it_is() -> None:
    assert not wrong_url("postgresql://host:5432/db?user=me@server")
    assert "application_name=it's@x" in wrong_url("postgresql://u@host/db?application_name=it's@x")
