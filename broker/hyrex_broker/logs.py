"""Log lines for people and machines: time, level, where, a constant text, then key=value fields."""

import logging
from typing import Final

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class FieldFormatter(logging.Formatter):
    """Appends what a record carries beside its text."""

    def format(self, record: logging.LogRecord) -> str:
        line, *traceback = super().format(record).split("\n", 1)
        fields = (f" {key}={value!r}" for key, value in vars(record).items() if key not in _STANDARD)
        return "\n".join(["".join([line, *fields]), *traceback])


def configure(level: int = logging.INFO) -> None:
    """Log to stderr, unless the root logger has handlers already."""
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(FieldFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.addHandler(handler)
    root.setLevel(level)
    # asyncpg tells each failed connection with a traceback; an outage is told once, by the broker's presence.
    logging.getLogger("asyncpg").setLevel(logging.CRITICAL)
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_no_callers_doing)


def _is_no_callers_doing(record: logging.LogRecord) -> bool:
    """gRPC tells with a traceback what any caller can bring about: an answer that could not be sent as its
    caller had left, and each text of a header that is not UTF-8 (without a token too)."""
    return not str(record.msg).startswith(("ExecuteBatchError raised in core", "Invalid encoding on"))
