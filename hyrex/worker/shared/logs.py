"""Logging of the worker's processes: the root logger is configured only if it has no handlers."""

import logging
import os
from typing import Final

from hyrex.runtime.json_logs import JsonFormatter
from hyrex.worker.shared.description import describe

log = logging.getLogger("hyrex.worker")

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")


def configure_logging(is_first: bool = False, json_of: str | None = None) -> None:
    """Log to stderr unless the user's code has configured logging: as text, or as JSON with a worker's name.

    HYREX_LOG_LEVEL sets the level of Hyrex's own loggers (default info). Only the first process of a worker
    says that it is wrong.
    """
    if not logging.getLogger().handlers:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        if json_of is not None:
            logging.getLogger().handlers[0].setFormatter(JsonFormatter(worker=json_of))
    wanted = os.environ.get("HYREX_LOG_LEVEL", "").upper()
    if wanted in LEVELS:
        logging.getLogger("hyrex").setLevel(wanted)
    elif wanted and is_first:
        log.warning("HYREX_LOG_LEVEL is %r; use one of %s", wanted.lower(), ", ".join(LEVELS).lower())


def warn(text: str, error: BaseException | None = None) -> None:
    """Log a warning in a process that runs user code; never raises.

    The log handlers, their streams and the error itself are user code there, and may raise anything.
    """
    try:
        if error is not None:
            text = f"{text}\n{describe(error).traceback.rstrip()}"
        log.warning("%s", text)
    except BaseException:
        write_stderr(text)


def write_stderr(text: str) -> None:
    """Write a line to file descriptor 2, since user code may have replaced sys.stderr; never raises."""
    try:
        os.write(2, f"{text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        pass
