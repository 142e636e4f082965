"""Options as users give them to tasks and workflows: checked where a value is given, else as they were."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from hyrex.options import CHANGEABLE, CHECKS, SendOptions, TaskConfig, Unset
from hyrex.queue import queue_name

__all__ = ["with_given"]

_CHECKS: Final = {**CHECKS, "queue": queue_name}


def with_given(
    config: TaskConfig, options: SendOptions, given: Mapping[str, Any]
) -> tuple[TaskConfig, SendOptions]:
    """What these become with options by name; UNSET: as before. Raises TypeError or ValueError, which name
    the option."""
    checked = {name: _CHECKS[name](value) for name, value in given.items() if not isinstance(value, Unset)}
    return (
        replace(config, **{name: value for name, value in checked.items() if name in CHANGEABLE}),
        replace(options, **{name: value for name, value in checked.items() if name not in CHANGEABLE}),
    )
