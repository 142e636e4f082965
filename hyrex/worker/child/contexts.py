"""The ContextVars that runs begin with: what the import and the lifespan set, a copy for each run.

So nothing that a run sets, the precision of `decimal` among it, is seen by the next one.
"""

from __future__ import annotations

import sys
from contextvars import Context, copy_context


class RunContexts:
    """Copies of `home`, which is as the caller's context is now; the lifespan is entered in it."""

    def __init__(self) -> None:
        """Begin with what this thread has."""
        self.home = copy_context()
        self._decimal = False

    def settle(self) -> None:
        """Nothing is added to `home` any more."""
        decimal = sys.modules.get("decimal")
        # decimal keeps an object that it changes in place, of which a copied context holds the same one.
        self._decimal = decimal is not None and any(
            issubclass(type(value), decimal.Context) for value in self.home.values()
        )

    def fresh(self) -> Context:
        """A run's own context."""
        context = self.home.copy()
        if self._decimal:
            context.run(_own_decimal_context)
        return context


def _own_decimal_context() -> None:
    import decimal

    decimal.setcontext(decimal.getcontext().copy())
