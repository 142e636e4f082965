"""Flags win over the environment, and every bad value is named by its flag."""

from pathlib import Path

import pytest

from hyrex_broker.__main__ import configure
from hyrex_broker.command import BadConfig
from hyrex_broker.root_tokens import RootTokenFile

URL = "postgresql://localhost/hyrex"


def test_flags_win_over_the_environment() -> None:
    environment = {"HYREX_DATABASE_URL": "postgresql://env/x", "HYREX_TOKEN": "from-env"}
    config = configure(["--database-url", URL], environment)
    assert (config.database_url, config.token) == (URL, "from-env")


def test_defaults_are_local_and_named_after_the_process() -> None:
    config = configure([], {"HYREX_DATABASE_URL": URL, "HYREX_TOKEN": ""})
    assert (config.address, config.token, config.lease_duration_s) == ("127.0.0.1:50051", None, 10.0)
    assert config.name


def test_every_flag_reaches_its_field() -> None:
    flags = (
        "--listen [::1]:7000 --name b --lease-duration 2.5 --drain-timeout 3 --processes 2 --reuse-port"
        " --tls-cert c --tls-key k --token t --payload-limit 100 --retention-days 2 --dead-letter-days 3"
    )
    config = configure(flags.split(), {"HYREX_DATABASE_URL": URL})
    assert (config.host, config.port, config.address, config.name) == ("::1", 7000, "[::1]:7000", "b")
    assert (config.lease_duration_s, config.drain_timeout_s, config.processes) == (2.5, 3.0, 2)
    assert (config.reuse_port, str(config.tls_cert), str(config.tls_key), config.token) == (
        True,
        "c",
        "k",
        "t",
    )
    assert (config.payload_limit_bytes, config.retention_days, config.dead_letter_days) == (100, 2, 3)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--listen", "nonsense"], "--listen nonsense"),
        (["--listen", ":50051"], "--listen :50051"),
        (["--listen", "127.0.0.1:99999"], "--listen 99999"),
        (["--lease-duration", "0.1"], "--lease-duration 0.1"),
        (["--lease-duration", "soon"], "--lease-duration soon"),
        (["--drain-timeout", "-1"], "--drain-timeout -1"),
        (["--processes", "0"], "--processes 0"),
        (["--processes", "2", "--listen", "127.0.0.1:0"], "several processes share one port"),
        (["--tls-cert", "c.pem"], "tls_cert and tls_key belong together"),
        (["--payload-limit", "0"], "--payload-limit 0"),
        (["--tls-client-ca", "ca.pem"], "--tls-client-ca needs --tls-cert"),
        (["--token", ",,"], "--token: must have visible ASCII characters only"),
        (["--name", ""], "--name"),
        (["--read-database-url", "mysql://u:p@h/x"], "--read-database-url: must be a URL"),
        (["--read-database-url", f"{URL}?target_session_attrs=any"], "--read-database-url: has target_"),
    ],
)
def test_a_bad_value_is_named_by_its_flag(arguments: list[str], named: str) -> None:
    with pytest.raises(BadConfig) as caught:
        configure(arguments, {"HYREX_DATABASE_URL": URL})
    assert str(caught.value).startswith(named)
    assert "\n" not in str(caught.value)


def test_a_bad_url_is_refused_without_showing_its_password() -> None:
    with pytest.raises(BadConfig, match="--database-url: must be a URL") as caught:
        configure(["--database-url", "mysql://user:secret@localhost/x"], {})
    assert "secret" not in str(caught.value)


def test_no_database_says_what_to_set() -> None:
    with pytest.raises(BadConfig, match="HYREX_DATABASE_URL"):
        configure([], {})


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "10.0.0.7", "broker.internal"])
def test_off_loopback_a_broker_wants_tls_and_token(host: str) -> None:
    given = {"HYREX_DATABASE_URL": URL}
    with pytest.raises(BadConfig, match="no TLS and no token: pass --tls-cert"):
        configure(["--listen", f"{host}:50051"], given)
    with pytest.raises(BadConfig, match="there is no TLS: pass"):
        configure(["--listen", f"{host}:50051", "--token", "t"], given)
    with pytest.raises(BadConfig, match="there is no token: pass"):
        configure(["--listen", f"{host}:50051", "--tls-cert", "c", "--tls-key", "k"], given)
    assert configure(["--listen", f"{host}:50051", "--insecure"], given).token is None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "[::1]", "localhost"])
def test_loopback_is_as_easy_as_ever(host: str) -> None:
    assert configure(["--listen", f"{host}:50051"], {"HYREX_DATABASE_URL": URL}).token is None


@pytest.mark.parametrize("blank", ["", " ", "\n"])
def test_a_blank_token_never_opens_a_broker_to_others(blank: str) -> None:
    environment = {"HYREX_DATABASE_URL": URL, "HYREX_TOKEN": blank}
    with pytest.raises(BadConfig, match="HYREX_TOKEN is set but empty"):
        configure(["--listen", "0.0.0.0:50051", "--insecure"], environment)


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_secrets_come_from_files_without_their_line_end(tmp_path: Path, ending: str) -> None:
    (tmp_path / "token").write_text(f"secret{ending}", newline="")
    (tmp_path / "url").write_text(f"{URL}{ending}", newline="")
    by_flag = configure(
        ["--token-file", f"{tmp_path}/token", "--database-url-file", f"{tmp_path}/url"],
        {"HYREX_TOKEN": "other"},
    )
    variables = {"HYREX_TOKEN_FILE": f"{tmp_path}/token", "HYREX_DATABASE_URL_FILE": f"{tmp_path}/url"}
    for config in (by_flag, configure([], variables)):
        assert (config.token, config.database_url) == ("secret", URL)


def test_a_secret_file_that_cannot_serve_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    for path, problem in ((tmp_path / "absent", "cannot be read"), (tmp_path / "empty", "is set but empty")):
        with pytest.raises(BadConfig, match=problem) as caught:
            configure([], {"HYREX_DATABASE_URL": URL, "HYREX_TOKEN_FILE": str(path)})
        assert str(path) in str(caught.value)


def test_a_secret_given_twice_in_one_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    both = {"HYREX_DATABASE_URL": URL, "HYREX_TOKEN": "t", "HYREX_TOKEN_FILE": f"{tmp_path}/token"}
    with pytest.raises(BadConfig, match="HYREX_TOKEN and HYREX_TOKEN_FILE are both given"):
        configure([], both)


def test_several_root_tokens_are_given_by_commas_or_lines(tmp_path: Path) -> None:
    environment = {"HYREX_DATABASE_URL": URL}
    config = configure([], environment | {"HYREX_TOKEN": " new , old,\n"})
    assert (config.root_tokens, config.token_file) == (["new", "old"], None)
    path = tmp_path / "tokens"
    path.write_text("# rotated on Monday\nnew\r\n\nold\n")
    for flags, variables in ((["--token-file", str(path)], {}), ([], {"HYREX_TOKEN_FILE": str(path)})):
        config = configure(flags, environment | variables)
        assert (config.root_tokens, config.token_file) == (["new", "old"], path)
    assert configure(["--token", "flag"], environment | {"HYREX_TOKEN_FILE": str(path)}).token_file is None


def test_a_file_of_tokens_is_read_again_when_it_changes_and_a_useless_one_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tokens"
    path.write_text("old\n")
    file = RootTokenFile(path)
    assert file.changed_tokens() is None
    path.write_text("new\nold\n")
    assert file.changed_tokens() == ["new", "old"]
    assert file.changed_tokens() is None
    for useless in ("", "# nothing\n", "schl\u00fcssel-geheim\n"):
        path.write_text(useless)
        assert file.changed_tokens() is None
    path.unlink()
    assert file.changed_tokens() is None
    path.write_text("newest-one\n")
    assert file.changed_tokens() == ["newest-one"]
    assert "geheim" not in caplog.text


def test_certificates_of_clients_are_enough_to_be_reached_by_others(tmp_path: Path) -> None:
    flags = ["--listen", "0.0.0.0:1", "--tls-cert", "c", "--tls-key", "k"]
    with pytest.raises(BadConfig, match="no token"):
        configure(flags, {"HYREX_DATABASE_URL": URL})
    assert configure([*flags, "--tls-client-ca", "a"], {"HYREX_DATABASE_URL": URL}).asks_for_tokens
