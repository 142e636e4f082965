"""Who makes the call that is being served."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

from hyrex_broker.domain.errors import TokenRefused
from hyrex_broker.domain.rights import ANYONE, Caller

ENDS_ITSELF_WITHIN_S: Final = 2.0
"""With the two seconds in which a broker learns of a revocation (`KnownTokens`), below the five that are
promised."""


class Lasting:
    """A call that lasts, and how it is ended when its caller's token ends."""

    def __init__(self, cancel_in: Callable[[float], None]) -> None:
        """`cancel_in` has the call's handler cancelled in so many seconds."""
        self._cancel_in = cancel_in
        self._ending = False
        self.end_by: Callable[[], None] | None = None

    def end(self) -> None:
        """End the call: by what its handler has named for that, or else by a cancellation. A handler that
        waits for a caller who reads nothing is cancelled as well, a little later. Again: nothing more."""
        if self._ending:
            return
        self._ending = True
        if self.end_by is None:
            self._cancel_in(0.0)
        else:
            self.end_by()
            self._cancel_in(ENDS_ITSELF_WITHIN_S)


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
    """Have `call` called when the token of this call ends, some time before a cancellation of its handler:
    for those that write from another task, since a write that is cancelled keeps gRPC from sending a
    status."""
    lasting = _lasting.get()
    if lasting is not None:
        lasting.end_by = call


def token_ended() -> TokenRefused:
    """A new error each time: one that is raised again keeps the frames of every call that it ended."""
    return TokenRefused("the token of this call was revoked or has expired; use another one")
