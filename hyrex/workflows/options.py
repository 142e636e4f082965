"""The options of a workflow: those of its decorator and of with_config, checked."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from hyrex.options import (
    UNSET,
    SendOptions,
    TaskConfig,
    Unset,
    checked_name,
    checked_priority,
    checked_run_at,
    checked_seconds,
    checked_texts,
)
from hyrex.queue import HyrexQueue, queue_name

__all__ = ["WorkflowOptions", "checked_flag"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowOptions:
    """Options as they were given, unchecked; UNSET: as before."""

    queue: str | HyrexQueue | Unset = UNSET
    priority: int | Unset = UNSET
    idempotency_key: str | Unset | None = UNSET
    delay: float | timedelta | Unset | None = UNSET
    run_at: datetime | Unset | None = UNSET
    headers: Mapping[str, str] | Unset = UNSET
    labels: Mapping[str, str] | Unset = UNSET

    def applied(self, config: TaskConfig, options: SendOptions) -> tuple[TaskConfig, SendOptions]:
        """What those become with these. Raises TypeError or ValueError, which name the option."""
        return replace(config, **self._config()), replace(options, **self._options())

    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = {}
        if not isinstance(self.queue, Unset):
            config["queue"] = queue_name(self.queue)
        if not isinstance(self.priority, Unset):
            config["priority"] = checked_priority(self.priority)
        return config

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if not isinstance(self.idempotency_key, Unset):
            key = self.idempotency_key
            options["idempotency_key"] = None if key is None else checked_name("idempotency_key", key)
        if not isinstance(self.delay, Unset):
            seconds = None if self.delay is None else checked_seconds("delay", self.delay)
            options["delay"] = None if seconds is None else timedelta(seconds=seconds)
        if not isinstance(self.run_at, Unset):
            options["run_at"] = None if self.run_at is None else checked_run_at(self.run_at)
        for what in ("headers", "labels"):
            if not isinstance(given := getattr(self, what), Unset):
                options[what] = checked_texts(what, given)
        return options


def checked_flag(what: str, value: object) -> bool:
    """True or False, or TypeError."""
    if not isinstance(value, bool):
        raise TypeError(f"{what} must be True or False, got {value!r}")
    return value
