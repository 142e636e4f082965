"""Who makes the call that is being served."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

from hyrex_broker.domain.rights import ANYONE, Caller


class Lasting:
    """A call that lasts, and how it is ended when its caller's token ends."""

    def __init__(self, end: Callable[[], None]) -> None:
        self.end_by = end

    def end(self) -> None:
        """End the call."""
        self.end_by()


_caller: Final[ContextVar[Caller]] = ContextVar("caller", default=ANYONE)
_lasting: Final[ContextVar[Lasting | None]] = ContextVar("lasting", default=None)


def current_caller() -> Caller:
    """Who makes this call; at a broker that asks for no token, anyone, who may do everything."""
    return _caller.get()


def set_caller(caller: Caller) -> None:
    """Note who makes this call: for its task of asyncio, and those that it starts."""
    _caller.set(caller)


def set_lasting(lasting: Lasting) -> None:
    """Note how this call is ended."""
    _lasting.set(lasting)


def when_token_ends(call: Callable[[], None]) -> None:
    """Have `call` called when the token of this call ends, instead of a cancellation of its handler: for
    those that write from another task, since a write that is cancelled keeps gRPC from sending a status."""
    lasting = _lasting.get()
    if lasting is not None:
        lasting.end_by = call
