"""A task function's parameters: checked when it is decorated, with type hints resolved at first use.

Hints may be strings (`from __future__ import annotations`) and may name what is defined later, so they are
resolved only when the first task is sent or run.
"""

import inspect
import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, Final, Optional, get_type_hints

__all__ = ["TaskSignature", "local_names", "place_of"]

STAR_KINDS: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class TaskSignature:
    """The parameters of one task function, and the binding of a call's values to their names."""

    def __init__(
        self, function: Callable[..., Any], task_name: str, names: Mapping[str, Any] | None = None
    ) -> None:
        self.task_name = task_name
        self.signature = inspect.signature(function)
        self._function = function
        self._local_names = names
        self._hints: dict[str, Any] | None = None
        parameters = self.signature.parameters.values()
        for parameter in parameters:
            _check_parameter(parameter, task_name)
        self.names = tuple(p.name for p in parameters)
        self._known = frozenset(self.names)
        self.required = frozenset(p.name for p in parameters if p.default is p.empty)
        # `x: int = None` is read as int | None, as type checkers once did.
        self._none_by_default = tuple(p.name for p in parameters if p.default is None)
        self._positional = tuple(p.name for p in parameters if p.kind is not p.KEYWORD_ONLY)
        # If all parameters can be given by position: how many there are.
        plain = all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)
        self._arity = len(self._positional) if plain else -1
        self.positional_only = tuple(p.name for p in parameters if p.kind is p.POSITIONAL_ONLY)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The values by parameter name, without defaults. Raises Python's TypeError if they do not fit."""
        if not kwargs and len(args) == self._arity:
            return dict(zip(self._positional, args, strict=True))
        bound = dict(zip(self._positional, args, strict=False))
        if kwargs:
            bound.update(kwargs)
        fits = len(bound) == len(args) + len(kwargs) and self.required <= bound.keys()
        if not fits or self.positional_only or not bound.keys() <= self._known:
            return self._bind_slowly(args, kwargs)
        return bound

    def _bind_slowly(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        try:
            return dict(self.signature.bind(*args, **kwargs).arguments)
        except TypeError as error:
            raise TypeError(f"{self.task_name}(): {error}") from None

    @property
    def hints(self) -> dict[str, Any]:
        """Resolved hints by parameter name, and under `return` that of the result if there is one."""
        # Not a cached_property: its lock is one for all tasks, and a fork may find it held.
        if self._hints is None:
            self._hints = self._resolved()
        return self._hints

    def _resolved(self) -> dict[str, Any]:
        try:
            found = get_type_hints(self._function, localns=self._names(), include_extras=True)
        except NameError as error:
            raise TypeError(f"task {self.task_name}: a type hint cannot be resolved: {error}") from error
        for name in self._none_by_default:
            found[name] = Optional[found[name]]  # noqa: UP045  # some hints have no |
        self._local_names = None
        return found

    def _names(self) -> dict[str, Any] | None:
        closure = inspect.getclosurevars(self._function).nonlocals if self._is_closure() else {}
        names = {**(self._local_names or {}), **closure}
        return names or None

    def _is_closure(self) -> bool:
        return bool(getattr(self._function, "__closure__", None))


def _check_parameter(parameter: inspect.Parameter, task_name: str) -> None:
    if parameter.kind in STAR_KINDS:
        star = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
        raise TypeError(
            f"task {task_name}: parameter {star}{parameter.name} is not allowed; name each argument"
        )
    if parameter.annotation is parameter.empty:
        remedy = "; a method cannot be a task: define a function" if parameter.name in ("self", "cls") else ""
        raise TypeError(f"task {task_name}: parameter {parameter.name!r} has no type hint{remedy}")
    if _is_description(parameter.default):
        raise TypeError(
            f"task {task_name}: the default of {parameter.name!r} is {parameter.default!r}, which the "
            f"function would receive as its value; write {parameter.name}: Annotated[..., Field(...)] = 5"
        )
    for described in getattr(parameter.annotation, "__metadata__", ()):
        if parameter.default is parameter.empty and _has_default(described):
            raise TypeError(
                f"task {task_name}: the hint of {parameter.name!r} holds a default, the function has none; "
                f"give it as {parameter.name}: Annotated[...] = {described.default!r}"
            )


def _is_description(default: Any) -> bool:
    """Return True if it describes a default, like `Field(...)` in a model, and is not a default itself."""
    return any(kind.__name__ in ("FieldInfo", "Field") for kind in type(default).__mro__)


def _has_default(described: Any) -> bool:
    return _is_description(described) and not getattr(described, "is_required", bool)()


def local_names(depth: int) -> Mapping[str, Any] | None:
    """The local names of the function `depth` calls up, for string hints; None at module level."""
    frame: FrameType | None = sys._getframe(depth + 1)
    if frame is None or frame.f_locals is frame.f_globals:
        return None
    return dict(frame.f_locals)


def place_of(function: Callable[..., Any]) -> str:
    """Where a function is defined, as file:line."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return f"{function.__module__}.{function.__qualname__}"
    return f"{code.co_filename}:{code.co_firstlineno}"
