"""Logging of the worker's processes: the root logger is configured only if it has no handlers."""

from __future__ import annotations

import logging


def configure_logging() -> None:
    """Log to stderr unless the user's code has arranged something else."""
    if not logging.getLogger().handlers:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
