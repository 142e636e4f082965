"""The TLS files: checked before they are used, since gRPC does not say what is wrong with them, and read
again when they change."""

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import grpc

from hyrex_broker.changed_files import ChangedFiles

log = logging.getLogger(__name__)


class BindError(Exception):
    """The address cannot be listened on; the text says which and what to do."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What a broker serves TLS with, and the authority of its clients' certificates, if they need any."""

    cert: Path
    key: Path
    client_ca: Path | None = None

    @property
    def paths(self) -> list[Path]:
        """The files."""
        return [self.cert, self.key, *([self.client_ca] if self.client_ca is not None else [])]

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Check the files and read them. Raises BindError."""
        check_pair(self.cert, self.key)
        ca = None
        if self.client_ca is not None:
            _check_certificate(self.client_ca, "--tls-client-ca")
            ca = self.client_ca.read_bytes()
        return grpc.ssl_server_certificate_configuration(
            [(self.key.read_bytes(), self.cert.read_bytes())], ca
        )


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Credentials that follow the files: a connection gets what is in them when it is made, and connections
    that are open stay. Files that do not fit together change nothing. Raises BindError."""
    changes = ChangedFiles(files.paths)
    first = files.read()

    def fetched() -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC for each connection, on a thread of its own; None: as before."""
        if not changes.changed():
            return None
        try:
            found = files.read()
        except (BindError, OSError) as error:
            log.error("new TLS files cannot be used; those of before stay", extra={"error": str(error)})
            return None
        log.info("the TLS files were read again", extra={"certificate": str(files.cert)})
        return found

    return grpc.dynamic_ssl_server_credentials(
        first,
        fetched,  # type: ignore[arg-type]  # the stubs lack None, which gRPC takes for "unchanged"
        require_client_authentication=files.client_ca is not None,
    )


def check_pair(cert: Path, key: Path) -> None:
    """Raises BindError for files that cannot be served: unreadable, no PEM, or not of one pair."""
    for flag, path in (("--tls-cert", cert), ("--tls-key", key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise BindError(f"{flag} {path}: cannot be read ({error.strerror})") from error
    _check_certificate(cert)
    _check_key(cert, key)


def _check_certificate(cert: Path, flag: str = "--tls-cert") -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=cert)
    except OSError as error:
        if not isinstance(error, ssl.SSLError):
            raise BindError(f"{flag} {cert}: cannot be read ({error.strerror})") from error
        text = "holds no certificate in PEM form; it must begin with -----BEGIN CERTIFICATE-----"
        raise BindError(f"{flag} {cert}: {text}") from error


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
