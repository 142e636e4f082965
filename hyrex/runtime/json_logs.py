"""Log records as JSON, one object a line, with what code has said of them in `extra`."""

import json
import logging
from datetime import UTC, datetime
from typing import Any, Final

__all__ = ["RUN", "JsonFormatter", "extra_fields"]

RUN: Final = "hyrex"
"""The attribute of a record with the fields of the run that logs."""

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_OURS: Final = frozenset({"time", "level", "logger", "message", "error"})


def extra_fields(record: logging.LogRecord) -> dict[str, Any]:
    """The fields that whoever logged has added."""
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


class JsonFormatter(logging.Formatter):
    """`time` (UTC), `level`, `logger`, `message`, `error` (a traceback), then what is known of the
    process, of the run that logs (`RUN`) and of the record."""

    def __init__(self, **fields: str) -> None:
        """`fields` are in each line."""
        super().__init__()
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        extra = extra_fields(record)
        line |= self._fields | extra.pop(RUN, {})
        line |= {f"{key}_" if key in _OURS else key: value for key, value in extra.items()}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        return json.dumps(line, default=_written, ensure_ascii=False)


def _written(value: object) -> str:
    """Whatever JSON does not know, in words; a value of a user's may raise anything."""
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__}>"
