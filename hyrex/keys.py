"""Concurrency and fair keys of calls: a function of the user's makes them of the arguments."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from hyrex.options import KeyOf, checked_key

__all__ = ["check_key_function", "key_of_call"]


def check_key_function(what: str, key_of: KeyOf, function: Callable[..., Any]) -> None:
    """Raises TypeError if it cannot be called with the arguments of the task's function."""
    if inspect.iscoroutinefunction(key_of):
        raise TypeError(f"{what} must be a plain function, not a coroutine")
    parameters = inspect.signature(function).parameters
    try:
        positional, named = _split(parameters, dict.fromkeys(parameters))
        inspect.signature(key_of).bind(*positional, **named)
    except ValueError:
        return  # a builtin without a signature: it is called with the arguments
    except TypeError as error:
        raise TypeError(
            f"{what} is called with the task's arguments ({', '.join(parameters)}): {error}"
        ) from None


def key_of_call(
    what: str, key_of: KeyOf, signature: inspect.Signature, arguments: Mapping[str, Any]
) -> str | None:
    """The key of a call with these validated arguments. Raises what the function raises, TypeError or
    ValueError for what is no key, which say where it comes from."""
    parameters = signature.parameters
    given = {name: arguments.get(name, each.default) for name, each in parameters.items()}
    positional, named = _split(parameters, given)
    key = key_of(*positional, **named)
    try:
        return checked_key(what, key)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{error} from the function that makes it") from None


def _split(
    parameters: Mapping[str, inspect.Parameter], values: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Arguments as the task's function would get them: by position as far as possible."""
    named = {name: values[name] for name, each in parameters.items() if each.kind is each.KEYWORD_ONLY}
    return [values[name] for name in parameters if name not in named], named
