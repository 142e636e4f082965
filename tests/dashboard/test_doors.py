"""The doors that must be shut: foreign hosts, foreign pages, forged forms, unsafe options."""

import re

import pytest

from hyrex.dashboard.__main__ import main
from hyrex.dashboard.app import make_app
from hyrex.dashboard.options import DashboardOptions, OptionsUnusable, checked
from tests.dashboard.shop import HERE, TOKEN, Reader, sign_in


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "evil.example:8787",
        "localhost@evil.example",
        "127.0.0.1.nip.io",
        "[::2]:8787",
        "localhost/x",
        "",
        "localhost:x",
        "10.0.0.1:8787",
    ],
)
def test_a_foreign_host_name_is_refused(nobody: Reader, host: str) -> None:
    """DNS rebinding: a page of another site whose name leads here."""
    for address in ("/", "/tasks", "/static/hyrex.css", "/health", "/sign-in"):
        assert nobody.client.get(address, headers={"host": host}).status_code == 421
    assert nobody.client.post("/sign-in", headers={"host": host, "origin": HERE}).status_code == 421


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8787", "127.0.0.1:1", "[::1]:8787", "localhost.:8787"]
)
def test_names_of_this_machine_are_answered(nobody: Reader, host: str) -> None:
    assert nobody.client.get("/health", headers={"host": host}).status_code == 200


def test_a_name_is_answered_once_it_was_given() -> None:
    options = DashboardOptions("grpc://127.0.0.1:1", host="0.0.0.0", host_names=("Tasks.example.org",))
    with Reader(make_app(options)) as reader:
        assert reader.client.get("/health", headers={"host": "tasks.example.org"}).status_code == 200
        assert reader.client.get("/health", headers={"host": "0.0.0.0"}).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:9999"},
        {"origin": "http://localhost:8787.evil.example"},
        {"origin": "ftp://localhost:8787"},
        {},
        {"origin": HERE, "sec-fetch-site": "cross-site"},
        {"origin": HERE, "sec-fetch-site": "same-site"},
        {"origin": HERE, "sec-fetch-site": "none"},
    ],
)
def test_a_post_from_elsewhere_is_refused(stranger: Reader, headers: dict[str, str]) -> None:
    sign_in(stranger)
    form = {"csrf": stranger.csrf("/queue/pause?name=x")}
    sent = stranger.client.post("/queue/pause?name=x", data=form, headers=headers)
    assert sent.status_code == 403
    assert "another site" in sent.text
    assert stranger.client.post("/sign-in", data={"token": TOKEN}, headers=headers).status_code == 403


def test_a_post_without_the_tokens_of_its_form_is_refused(stranger: Reader) -> None:
    sign_in(stranger)
    address = "/queue/pause?name=x"
    mine = stranger.csrf(address)
    sign_in(stranger)
    for csrf in ("", "x", mine, mine[:-1]):
        assert stranger.post(address, {"csrf": csrf}).status_code == 403, "also that of another session"
    assert stranger.post(address, {}, content_type="text/plain").status_code == 403
    assert stranger.post(address, {"csrf": stranger.csrf(address)}).status_code == 303


@pytest.mark.parametrize("root", ["/static/", "/"])
@pytest.mark.parametrize(
    "path",
    [
        "..%2fapp.py",
        "%2e%2e/app.py",
        "..%5capp.py",
        "hyrex.css/..%2f..%2fapp.py",
        "%2fetc%2fpasswd",
        "/etc/passwd",
        "..%252fapp.py",
        "hyrex.css%00.py",
        "%2e%2e%2f%2e%2e%2f%2e%2e%2f%2e%2e%2f%2e%2e%2f%2e%2e%2f%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    ],
)
def test_no_path_leads_to_other_files(stranger: Reader, root: str, path: str) -> None:
    sign_in(stranger)
    answer = stranger.get(root + path)
    assert answer.status_code in (400, 404)
    assert "root:" not in answer.text
    assert "def make_app" not in answer.text


@pytest.mark.parametrize(
    "of", ["/../tokens", "//evil.example/", "https://evil.example", "/static/x", "/tasks/.."]
)
def test_only_own_pages_are_followed(stranger: Reader, of: str) -> None:
    sign_in(stranger)
    assert stranger.get("/live", of=of).status_code == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(nobody: Reader, method: str) -> None:
    assert nobody.client.request(method, "/", headers={"origin": HERE}).status_code == 405


def test_a_form_that_is_too_large_is_refused(nobody: Reader) -> None:
    assert nobody.post("/sign-in", {"token": "x" * 70_000}).status_code == 413
    chunked = nobody.client.post("/sign-in", content=iter([b"token=x"]), headers={"origin": HERE})
    assert chunked.status_code == 413


def test_every_answer_forbids_foreign_content_and_frames(stranger: Reader) -> None:
    for address in ("/", "/sign-in", "/static/hyrex.css", "/nowhere", "/health"):
        headers = stranger.get(address).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"


def test_no_page_has_a_script_or_a_style_of_its_own(stranger: Reader) -> None:
    sign_in(stranger)
    for address in ("/", "/sign-in", "/tasks", "/queues", "/workers", "/brokers"):
        page = stranger.get(address).text
        assert not re.search(r"\sstyle=|<style|<script>|javascript:", page)


@pytest.mark.parametrize(
    "changed",
    [
        {"host": "0.0.0.0"},
        {"host": "192.0.2.7"},
        {"prefix": "hyrex"},
        {"prefix": "/../x"},
        {"host_names": ("https://x",)},
        {"broker_url": "http://x"},
        {"tls_cert": __file__},
        {"trace_url": "javascript:alert('TRACE_ID')"},
        {"trace_url": "https://TRACE_ID.example.org/"},
        {"trace_url": "https://jaeger.example.org/trace/"},
    ],
)
def test_unsafe_or_senseless_options_are_refused(changed: dict[str, object]) -> None:
    with pytest.raises(OptionsUnusable):
        checked(DashboardOptions(**{"broker_url": "grpc://127.0.0.1:1", **changed}))  # type: ignore[arg-type]


def test_the_command_says_in_one_line_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--listen", "0.0.0.0:8787"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --listen 0.0.0.0:8787 sends tokens and cookies unencrypted")
    assert error.count("\n") == 1
