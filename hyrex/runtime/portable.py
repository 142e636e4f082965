"""Pickling: errors with any constructor, and objects that a module has under their name."""

import sys
from importlib import import_module
from typing import Any

__all__ = ["PortableError", "imported", "is_importable"]


class PortableError(BaseException):
    """An error that can be copied and pickled whatever its constructor takes, also as a user's subclass."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args), self.__dict__ or None


def _restored(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    error: BaseException = kind.__new__(kind, *args)
    return error


def is_importable(thing: Any) -> bool:
    """Return True if another process would find this object by its module and name."""
    try:
        return imported(thing.__module__, thing.__qualname__) is thing
    except (ImportError, AttributeError):
        return False


def imported(module: str, qualname: str) -> Any:
    """The object that the module has under this name. Raises ImportError or AttributeError."""
    found: Any = sys.modules.get(module) or import_module(module)
    for name in qualname.split("."):
        found = getattr(found, name)
    return found
