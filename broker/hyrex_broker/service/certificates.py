"""Checks the TLS files before they are used, since gRPC does not say what is wrong with them."""

import ssl
from pathlib import Path
from typing import NoReturn


class BindError(Exception):
    """The address cannot be listened on; the text says which and what to do."""


def check_pair(cert: Path, key: Path) -> None:
    """Raises BindError for files that cannot be served: unreadable, no PEM, or not of one pair."""
    for flag, path in (("--tls-cert", cert), ("--tls-key", key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise BindError(f"{flag} {path}: cannot be read ({error.strerror})") from error
    _check_certificate(cert)
    _check_key(cert, key)


def _check_certificate(cert: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=cert)
    except ssl.SSLError as error:
        text = "holds no certificate in PEM form; it must begin with -----BEGIN CERTIFICATE-----"
        raise BindError(f"--tls-cert {cert}: {text}") from error


def _check_key(cert: Path, key: Path) -> None:
    def locked() -> NoReturn:
        raise BindError(f"--tls-key {key}: is encrypted; give one without a passphrase")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=locked)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            text = f"is not the key of the first certificate in --tls-cert {cert}"
        else:
            text = (
                "holds no private key in PEM form; it must begin with -----BEGIN PRIVATE KEY----- or the like"
            )
        raise BindError(f"--tls-key {key}: {text}") from error
