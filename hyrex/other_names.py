"""What other libraries call what, so that the error for such a name says which one is meant here.

Celery, Dramatiq, RQ and Hyrex 0.10; docs/howto has a page for each.
"""

import functools
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Final, ParamSpec, TypeVar

__all__ = [
    "OF_HANDLES",
    "OF_OPTIONS",
    "OF_TASKS",
    "OF_WORKFLOWS",
    "advice",
    "knows_its_options",
    "missing",
    "missing_of_app",
]

P = ParamSpec("P")
R = TypeVar("R")

OF_TASKS: Final = MappingProxyType(
    {
        "apply_async": "with_config",
        "delay": "send",
        "delay_on_commit": "on",
        "enqueue": "send",
        "message": "call",
        "s": "call",
        "send_with_options": "with_config",
        "si": "call",
        "signature": "call",
    }
)
OF_WORKFLOWS: Final = MappingProxyType(
    {
        "apply_async": "with_config",
        "delay": "send",
        "enqueue": "send",
        "send_with_options": "with_config",
    }
)
OF_HANDLES: Final = MappingProxyType(
    {
        "durable_id": "id",
        "get": "result",
        "get_result": "result",
        "get_status": "status",
        "is_finished": "is_final",
        "message_id": "id",
        "ready": "is_final",
        "return_value": "result",
        "revoke": "cancel",
        "state": "status",
        "task_id": "id",
    }
)
OF_OPTIONS: Final = MappingProxyType(
    {
        "actor_name": "name",
        "at_front": "priority",
        "autoretry_for": "max_retries",
        "countdown": "delay",
        "default_retry_delay": "retry_backoff",
        "dont_autoretry_for": "no_retry_on",
        "eta": "run_at",
        "expires": "expires_in",
        "job_id": "idempotency_key",
        "job_timeout": "timeout_seconds",
        "max_age": "expires_in",
        "meta": "labels",
        "min_backoff": "retry_backoff",
        "queue_name": "queue",
        "rate_limit": "rate",
        "soft_time_limit": "timeout_seconds",
        "throws": "no_retry_on",
        "time_limit": "timeout_seconds",
        "ttl": "expires_in",
    }
)


def advice(name: str, known: Sequence[str]) -> str:
    """What to write for an unknown option, as the end of a sentence: the known one that it may stand for
    (what another library calls so, or the most similar one), else all."""
    from difflib import get_close_matches  # only where something is wrong

    near = [other for other in (OF_OPTIONS.get(name),) if other in known] or get_close_matches(name, known, 1)
    return f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}"


def knows_its_options(method: Callable[P, R], called: str = "") -> Callable[P, R]:
    """Have a method that takes options by name say of an unknown one which may be meant (TypeError), as
    `called` where users know it by another name."""
    known = frozenset(getattr(method, "__kwdefaults__", ()))
    called = called or method.__name__

    @functools.wraps(method)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs.keys() - known:
            raise TypeError(f"{called} has no option {name!r}; {advice(name, sorted(known))}")
        return method(*args, **kwargs)

    return checked


def missing(of: object, name: str, ours: MappingProxyType[str, str]) -> AttributeError:
    """The error for an attribute that is not there; says what another library's name is called here."""
    told = f"{type(of).__name__!r} object has no attribute {name!r}"
    if name in ours:
        told += f"; what is so called elsewhere is {ours[name]!r} here"
    return AttributeError(told, name=name, obj=of)


def missing_of_app(app: object, name: str, registry: type) -> AttributeError:
    """The error for an attribute that an app lacks; says which is one of a registry."""
    told = f"{type(app).__name__!r} object has no attribute {name!r}"
    if not name.startswith("_") and hasattr(registry, name):
        told += f"; a registry has it: hy = HyrexRegistry(), hy.{name}, and app.add_registry(hy)"
    return AttributeError(told, name=name, obj=app)
