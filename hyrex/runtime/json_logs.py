"""Log records as JSON, one object a line, with what code has said of them in `extra`."""

import json
import logging
from datetime import UTC, datetime
from typing import Any, Final

__all__ = ["JsonFormatter", "extra_fields"]

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_OURS: Final = frozenset({"time", "level", "logger", "message", "error"})


def extra_fields(record: logging.LogRecord) -> dict[str, Any]:
    """The fields that whoever logged has added."""
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


class JsonFormatter(logging.Formatter):
    """`time` (UTC), `level`, `logger`, `message`, `error` (a traceback), and the record's extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {f"{key}_" if key in _OURS else key: value for key, value in extra_fields(record).items()}
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
