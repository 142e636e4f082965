"""Makes a task's configuration from the options of its decorator.

Precedence: the task's options, then those of its registry, then the defaults of TaskConfig.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Final

from hyrex.keys import check_key_function
from hyrex.options import (
    DEFAULT_QUEUE,
    UNSET,
    Backoff,
    KeyOf,
    OnError,
    OnFull,
    SendOptions,
    TaskConfig,
    Unset,
    checked_count,
    checked_expiry,
    checked_key,
    checked_max_per_key,
    checked_name,
    checked_on_full,
    checked_priority,
    checked_retries,
    checked_schedule,
    checked_texts,
    checked_timeout,
)
from hyrex.other_names import OF_OPTIONS, advice
from hyrex.queue import HyrexQueue, queue_name
from hyrex.rate import checked_rate
from hyrex.retry import checked_backoff

__all__ = [
    "TaskOptions", "anything", "approval_options", "check_schedulable", "checked_function", "task_name",
]  # fmt: skip


OF_APPROVALS: Final = ("name", "queue", "priority", "expires_in", "headers", "labels")
"""The options of a task that no worker runs."""


@contextmanager
def _naming(task: str) -> Iterator[None]:
    """Have errors name the task; a subclass may take more than a text, so its error becomes a plain one."""
    try:
        yield
    except TypeError as error:
        raise TypeError(f"task {task}: {error}") from None
    except ValueError as error:
        raise ValueError(f"task {task}: {error}") from None


def _meant(name: str, known: Sequence[str]) -> str:
    send = [each.name for each in fields(SendOptions)]
    if (ours := OF_OPTIONS.get(name, name)) in send and ours not in known:
        return f": it is one of a send, task.with_config({ours}=...).send(...)"
    return f"; {advice(name, known)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """The options given to a decorator or to a registry, unchecked."""

    name: str | None = None
    queue: str | HyrexQueue | Unset = UNSET
    max_retries: int | Unset = UNSET
    timeout_seconds: float | timedelta | None = None
    priority: int | Unset = UNSET
    retry_backoff: Backoff | None = None
    no_retry_on: type[BaseException] | tuple[type[BaseException], ...] = ()
    on_error: OnError | None = None
    max_concurrency: int | None = None
    rate: str | None = None
    burst: int | None = None
    cron: str | None = None
    tz: str = "UTC"
    expires_in: float | timedelta | None = None
    headers: Mapping[str, str] | None = None
    labels: Mapping[str, str] | None = None
    concurrency_key: str | KeyOf | None = None
    max_per_key: int = 1
    on_full: OnFull = "wait"
    fair_key: str | KeyOf | None = None

    @classmethod
    def given(cls, options: Mapping[str, Any]) -> "TaskOptions":
        """Those of a decorator. Raises TypeError, which says what an unknown one may have meant."""
        known = [each.name for each in fields(cls)]
        for name in options:
            if name not in known:
                raise TypeError(f"a task has no option {name!r}{_meant(name, known)}")
        return cls(**options)

    def config(self, name: str, defaults: "TaskOptions") -> TaskConfig:
        """The checked configuration. Raises TypeError or ValueError, which name task and option."""
        with _naming(name):
            return self._config(name, defaults)

    def send_options(self, name: str) -> SendOptions:
        """The options of every send. Raises TypeError or ValueError, which name task and option."""
        with _naming(name):
            key = self.concurrency_key
            if key is None and (self.max_per_key != 1 or self.on_full != "wait"):
                raise ValueError(
                    "max_per_key and on_full are for tasks with a concurrency_key; give that too"
                )
            return SendOptions(
                headers=checked_texts("headers", self.headers or {}),
                labels=checked_texts("labels", self.labels or {}),
                concurrency_key=_constant("concurrency_key", key),
                max_per_key=checked_max_per_key(self.max_per_key),
                on_full=checked_on_full(self.on_full),
                fair_key=_constant("fair_key", self.fair_key),
            )

    def keys_of(self, name: str, function: Callable[..., Any]) -> Mapping[str, KeyOf]:
        """What makes the keys of each send of a task, by the names of the options, where they depend on the
        arguments. Raises TypeError if one does not take what the task's function takes."""
        given = {"concurrency_key": self.concurrency_key, "fair_key": self.fair_key}
        found = {what: key for what, key in given.items() if key is not None and callable(key)}
        with _naming(name):
            for what, key in found.items():
                check_key_function(what, key, function)
        return found

    def _config(self, name: str, defaults: "TaskOptions") -> TaskConfig:
        cron, tz = checked_schedule(self.cron, self.tz)
        checked_rate(self.rate, self.burst)
        return TaskConfig(
            name=checked_name("name", name),
            queue=queue_name(_first(self.queue, defaults.queue, DEFAULT_QUEUE)),
            max_retries=checked_retries(_first(self.max_retries, defaults.max_retries, 0)),
            timeout_seconds=checked_timeout(self.timeout_seconds),
            priority=checked_priority(_first(self.priority, defaults.priority, 5)),
            retry_backoff=checked_backoff(self.retry_backoff),
            no_retry_on=_checked_exceptions(self.no_retry_on),
            on_error=_checked_on_error(self.on_error),
            max_concurrency=None
            if self.max_concurrency is None
            else checked_count("max_concurrency", self.max_concurrency, minimum=1),
            rate=self.rate,
            burst=self.burst,
            cron=cron,
            tz=tz,
            expires_in=checked_expiry(self.expires_in),
        )


def task_name(given: Any, function: Any) -> str:
    """The name of a task: the given one, or that of its function. Raises TypeError or ValueError."""
    if given is not None:
        return checked_name("name", given)
    name = str(getattr(function, "__name__", ""))
    if name == "<lambda>":
        raise ValueError("a lambda has no name: give the task one, hy.task(lambda: ..., name=...)")
    return name


def _constant(what: str, key: str | KeyOf | None) -> str | Unset | None:
    return UNSET if key is None or callable(key) else checked_key(what, key)


def _first(*values: Any) -> Any:
    return next(value for value in values if not isinstance(value, Unset))


def _checked_exceptions(value: Any) -> tuple[type[BaseException], ...]:
    kinds = value if isinstance(value, tuple | list) else (value,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(f"no_retry_on must hold exception classes, got {kind!r}")
    return tuple(kinds)


def _checked_on_error(value: Any) -> Any:
    if value is None:
        return None
    if not callable(value):
        raise TypeError(f"on_error must be callable, got {value!r}")
    try:
        parameters = list(inspect.signature(value).parameters.values())
    except (TypeError, ValueError):
        return value  # a builtin without a signature: it is called with the exception
    required = [
        p
        for p in parameters
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    named = [p for p in parameters if p.default is p.empty and p.kind is p.KEYWORD_ONLY]
    if len(required) > 1 or named:
        raise TypeError(f"on_error must take 0 or 1 argument, got {value!r}")
    return value


def approval_options(options: Mapping[str, Any]) -> TaskOptions:
    """The options of an approval. Raises TypeError for those of runs, of which it has none."""
    for name in options:
        if name not in OF_APPROVALS:
            raise TypeError(f"an approval has no option {name!r}; it has {', '.join(OF_APPROVALS)}")
    return TaskOptions.given({**options, "max_retries": 0})


def anything() -> Callable[[Any], Any]:
    """A stub of an approval that takes any JSON value and ends with any; a new one each time."""

    def ask(details: Any = None) -> Any:
        """Never called."""

    return ask


def check_schedulable(function: Callable[..., Any], name: str) -> None:
    """Raises TypeError if a task with a cron expression cannot be called without arguments."""
    lacking = [
        each.name
        for each in inspect.signature(function).parameters.values()
        if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    if lacking:
        raise TypeError(
            f"task {name}: cron: nobody gives arguments at a slot; give {', '.join(lacking)} a default"
        )


def checked_function(function: Callable[..., Any], name: str) -> bool:
    """Return True if the function is async. Raises TypeError if it cannot be a task."""
    if not inspect.isfunction(function):
        raise TypeError(f"task {name or function!r}: only plain functions can be tasks, got {function!r}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"task {name}: a generator cannot be a task; return a list instead")
    return inspect.iscoroutinefunction(function)
