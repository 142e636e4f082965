"""`python -m hyrex_broker`: reads flags and environment, runs a broker, and says in one line why it ended.

Exit status: 0 stopped as asked, 2 bad configuration, 3 the database cannot be reached, 4 the database
is too old or its schema is not this version's, 5 the address cannot be listened on, 1 anything else.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import ValidationError

from hyrex_broker import hangup, logs, open_files
from hyrex_broker.command import (
    BAD_CONFIG,
    NO_ADDRESS,
    NO_DATABASE,
    OK,
    UNFIT_DATABASE,
    BadConfig,
    end_with,
    listen_address,
    problem_text,
    run_loop,
    software_version,
)
from hyrex_broker.config import FLAGS, BrokerConfig
from hyrex_broker.following import follow
from hyrex_broker.given_secrets import SecretUnusable, is_blank, read_secret, token_file

# gRPC's core writes lines of its own to stderr; the broker itself logs what matters.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

_STOP_BEYOND_DRAIN_S: Final = 5.0
SECRETS: Final = ("database_url", "read_database_url", "outbox_url", "token")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a broker until it is told to stop; return the exit status."""
    try:
        config = configure(sys.argv[1:] if arguments is None else arguments, os.environ)
    except BadConfig as error:
        return _say(BAD_CONFIG, str(error))
    logs.configure(json_of=config.name if config.log_format == "json" else None)
    open_files.raise_limit()
    hangup.ignore_without_terminal()
    if config.processes > 1:
        from hyrex_broker import processes  # the parent of several brokers does not load a broker

        return processes.run(config)
    return _run(config)


def configure(arguments: Sequence[str], environment: Mapping[str, str]) -> BrokerConfig:
    """The configuration, flags over environment. Raises BadConfig."""
    given = {key: value for key, value in vars(_parser().parse_args(arguments)).items() if value is not None}
    if (path := token_file(given, environment)) is not None:
        given["token_path"] = path
    try:
        secrets = {key: read_secret(key, given, environment) for key in SECRETS}
    except SecretUnusable as error:
        raise BadConfig(str(error)) from None
    given |= {key: value for key, value in secrets.items() if value is not None}
    given["token_file"] = given.pop("token_path", None)
    if schema := environment.get("HYREX_SCHEMA"):
        given.setdefault("database_schema", schema)
    if "database_url" not in given:
        raise BadConfig("no database is named; pass --database-url or set HYREX_DATABASE_URL")
    if "listen" in given:
        given["host"], given["port"] = listen_address(given.pop("listen"))
    try:
        config = BrokerConfig(**given)
    except ValidationError as error:
        raise BadConfig(
            "; ".join(problem_text(problem, FLAGS, SECRETS) for problem in error.errors())
        ) from None
    if config.token is None and is_blank(environment, "HYREX_TOKEN") and not config.is_private:
        raise BadConfig(
            f"HYREX_TOKEN is set but empty, and --listen {config.host} can be reached from other machines; "
            "is a secret missing? Give it a value, or unset it"
        )
    return config


def _run(config: BrokerConfig) -> int:
    if config.parent_pid is not None:
        follow(config.parent_pid, config.drain_timeout_s + _STOP_BEYOND_DRAIN_S)
    from hyrex_broker.app import run_broker
    from hyrex_broker.domain.errors import SchemaOutOfRange, StorageUnavailable
    from hyrex_broker.service.certificates import BindError
    from hyrex_broker.storage import preflight

    async def checked() -> None:
        await preflight.check(config.database_url, replicated=not config.private_database)
        if config.read_database_url is not None:
            await preflight.check_replica(config.read_database_url, config.database_url)
        if config.outbox_url is not None:
            await preflight.check_outbox(config.outbox_url, config.database_schema)
        await run_broker(config)

    try:
        run_loop(checked())
    except StorageUnavailable as error:
        return _say(NO_DATABASE, str(error))
    except SchemaOutOfRange as error:
        return _say(UNFIT_DATABASE, str(error))
    except BindError as error:
        return _say(NO_ADDRESS, str(error))
    except KeyboardInterrupt:
        return OK
    return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hyrex_broker", description="Run a Hyrex broker.")
    add = parser.add_argument
    add("--version", action="version", version=f"hyrex {software_version()}")
    add("--database-url", metavar="URL", help="postgresql://... (HYREX_DATABASE_URL); `ps` shows it")
    add("--database-url-file", metavar="FILE", help="a file that holds it (HYREX_DATABASE_URL_FILE)")
    add("--read-database-url", metavar="URL", help="a standby for lists (HYREX_READ_DATABASE_URL)")
    add("--read-database-url-file", metavar="FILE", help="a file with it (HYREX_READ_DATABASE_URL_FILE)")
    add("--outbox-url", metavar="URL", help="a database of applications with an outbox (HYREX_OUTBOX_URL)")
    add("--outbox-url-file", metavar="FILE", help="a file that holds it (HYREX_OUTBOX_URL_FILE)")
    add("--listen", metavar="HOST:PORT", help="default 127.0.0.1:50051; port 0 picks a free one")
    add("--name", help="a name for people; default host-pid")
    add("--token", help="tokens that may do everything, with commas (HYREX_TOKEN); `ps` shows it")
    add("--token-file", metavar="FILE", help="a file with one a line, reread when changed (HYREX_TOKEN_FILE)")
    add(
        "--private-database",
        action="store_const",
        const=True,
        help="for development: say nothing of failover, the database has no standby and needs none",
    )
    add("--insecure", action="store_const", const=True, help="listen off loopback without TLS and token")
    add("--lease-duration", dest="lease_duration_s", metavar="S", help="what may be away without harm (15)")
    add("--drain-timeout", dest="drain_timeout_s", metavar="S", help="to hand workers over at the end (10)")
    add("--processes", metavar="N", help="broker processes on one port (1)")
    add("--reuse-port", action="store_const", const=True, help="share the port with other processes")
    add("--parent", dest="parent_pid", help=argparse.SUPPRESS)  # by the parent of several processes
    add("--tls-cert", metavar="FILE", help="certificate chain, PEM")
    add("--tls-key", metavar="FILE", help="its key, PEM")
    add("--tls-client-ca", metavar="FILE", help="clients must have a certificate of this authority, PEM")
    add("--payload-limit", dest="payload_limit_bytes", metavar="BYTES", help="of a payload or result (4 MiB)")
    add(
        "--schema",
        dest="database_schema",
        metavar="NAME",
        help="Hyrex's own schema in the database (hyrex; HYREX_SCHEMA)",
    )
    add("--metrics", metavar="HOST:PORT", help="where Prometheus reads; without a host, the loopback")
    add("--log-format", choices=("text", "json"), help="how lines are logged (text)")
    add("--retention-days", metavar="DAYS", help="how long finished tasks are kept (7)")
    add("--dead-letter-days", metavar="DAYS", help="how long those are kept that ended badly (30)")
    return parser


def _say(status: int, text: str) -> int:
    return end_with(status, text, program="broker")


if __name__ == "__main__":
    sys.exit(main())
