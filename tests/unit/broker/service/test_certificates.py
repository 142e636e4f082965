"""Files of TLS that cannot be served are named, with what is wrong about them: the port is not to blame."""

from pathlib import Path

import pytest

from hyrex_broker.service.certificates import BindError
from hyrex_broker.service.server import build_server
from tests.unit.broker.service.test_server import config, empty_servicers

TLS = Path(__file__).with_name("tls")
CERT, KEY, OTHER, LOCKED = (TLS / name for name in ("one.crt", "one.key", "other.key", "locked.key"))


@pytest.mark.parametrize(
    ("cert", "key", "named"),
    [
        (CERT, OTHER, r"--tls-key .*other\.key: is not the key of the first certificate in .*one\.crt"),
        (KEY, KEY, r"--tls-cert .*one\.key: holds no certificate in PEM form"),
        (KEY, CERT, r"--tls-cert .*one\.key: holds no certificate in PEM form"),
        (CERT, CERT, r"--tls-key .*one\.crt: holds no private key in PEM form"),
        (CERT, LOCKED, r"--tls-key .*locked\.key: is encrypted"),
        (CERT, TLS, r"--tls-key .*tls: cannot be read"),
        (TLS / "absent.crt", KEY, r"--tls-cert .*absent\.crt: cannot be read \(No such file or directory\)"),
    ],
)  # fmt: skip
async def test_files_that_cannot_be_served_are_named(cert: Path, key: Path, named: str) -> None:
    with pytest.raises(BindError, match=named):
        build_server(config(tls_cert=cert, tls_key=key), empty_servicers())


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
async def test_a_certificate_that_is_none_is_named(tmp_path: Path, content: bytes) -> None:
    cert = tmp_path / "some.crt"
    cert.write_bytes(content)
    with pytest.raises(BindError, match=r"some\.crt: holds no certificate in PEM form"):
        build_server(config(tls_cert=cert, tls_key=KEY), empty_servicers())


async def test_a_proper_pair_is_served() -> None:
    built = build_server(config(tls_cert=CERT, tls_key=KEY), empty_servicers())
    assert built.port
    await built.server.stop(None)
