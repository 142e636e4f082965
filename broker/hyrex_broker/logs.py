"""Log lines for people and machines: time, level, logger, a constant text, then key=value fields, or JSON."""

import logging
from typing import Final

from hyrex.runtime.json_logs import JsonFormatter, extra_fields

_TEXT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class FieldFormatter(logging.Formatter):
    """Appends the extra fields of a record to its text."""

    def format(self, record: logging.LogRecord) -> str:
        line, *traceback = super().format(record).split("\n", 1)
        fields = (f" {key}={value!r}" for key, value in extra_fields(record).items())
        return "\n".join(["".join([line, *fields]), *traceback])


def configure(level: int = logging.INFO, *, json_of: str | None = None) -> None:
    """Log to stderr, unless the root logger has handlers already; as JSON with a broker's name, if given."""
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(FieldFormatter(_TEXT) if json_of is None else JsonFormatter(broker=json_of))
    root.addHandler(handler)
    root.setLevel(level)
    # asyncpg logs each failed connection with a traceback; the broker itself logs an outage, and only once.
    logging.getLogger("asyncpg").setLevel(logging.CRITICAL)
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_not_caused_by_a_caller)


def _is_not_caused_by_a_caller(record: logging.LogRecord) -> bool:
    """Return False for tracebacks of gRPC that any caller can cause: an answer to a caller that had left, and
    a header that is not UTF-8 (even without a token)."""
    return not str(record.msg).startswith(("ExecuteBatchError raised in core", "Invalid encoding on"))
