"""The ContextVars that a run begins with: a copy of what the import and the lifespan have set.

So the next run sees nothing that a run sets, the precision of `decimal` included.
"""

import sys
from contextvars import Context, copy_context


class RunContexts:
    """Makes copies of `home`, a context in which the lifespan is entered."""

    def __init__(self) -> None:
        """`home` begins as a copy of the caller's context."""
        self.home = copy_context()
        self._decimal = False

    def settle(self) -> None:
        """Note that `home` is complete: the lifespan is entered."""
        decimal = sys.modules.get("decimal")
        # decimal's context is an object that is changed in place: copies of `home` would all share it.
        self._decimal = decimal is not None and any(
            issubclass(type(value), decimal.Context) for value in self.home.values()
        )

    def fresh(self) -> Context:
        """The context for one run."""
        context = self.home.copy()
        if self._decimal:
            context.run(_own_decimal_context)
        return context


def _own_decimal_context() -> None:
    import decimal

    decimal.setcontext(decimal.getcontext().copy())
