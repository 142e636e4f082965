"""For the tests of code that uses Hyrex: `inline()`, and fixtures in `hyrex.testing.plugin`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyrex.testing.inplace import InlineTasks, inline

__all__ = ["InlineTasks", "inline"]


def __getattr__(name: str) -> Any:
    # The pytest plugin is loaded by every run of pytest: nothing may be imported before it is used.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("hyrex.testing.inplace"), name)
