"""Who calls, and what that caller may do: scopes, for queues that match patterns.

A right is checked where its effect lands: the service checks the scope of each call, and each
handler the queues that the call concerns.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from hyrex.runtime import patterns
from hyrex_broker.domain.errors import RightMissing

EVERY_QUEUE: Final = "*"
_ROOT: Final = "root"


class Scope(StrEnum):
    """What a token may be used for."""

    SUBMIT = "submit"
    """Submit tasks, cancel and retry them."""
    WORK = "work"
    """Be a worker."""
    READ = "read"
    """See tasks, queues, workers and brokers, without what tasks carry."""
    COMPLETE = "complete"
    """End tasks that wait for a call from outside."""
    PAYLOAD = "payload"
    """See payloads, results and errors of what may be read."""
    ADMIN = "admin"
    """Pause, limit, purge and drain; make tokens."""


@dataclass(frozen=True, slots=True, eq=False)
class Caller:
    """Whoever a call comes from. `key` tells the tokens apart, and is no secret."""

    name: str
    scopes: frozenset[Scope]
    queue_patterns: tuple[str, ...]
    key: bytes = b""
    _covers: Callable[[str], bool] = field(init=False, repr=False)
    unlimited: bool = field(init=False)
    """True if it has its scopes for every queue."""

    def __post_init__(self) -> None:
        covers = patterns.known(self.queue_patterns)
        object.__setattr__(self, "_covers", covers)
        object.__setattr__(self, "unlimited", covers(EVERY_QUEUE))

    def covers(self, queue: str) -> bool:
        """Return True if its rights are for this queue, or for all that this pattern matches.

        A star in `queue` is met only by a star of its own patterns, which then meets whatever stands there.
        """
        return self.unlimited or self._covers(queue)

    def covers_all(self, queues: Iterable[str]) -> bool:
        """Return True if its rights are for each of these queues or patterns."""
        return self.unlimited or all(map(self._covers, queues))

    def may(self, scope: Scope, queue: str | None = None) -> bool:
        """Return True if it has the scope, and has it for this queue or pattern, if one is given."""
        return scope in self.scopes and (queue is None or self.covers(queue))

    def sees(self, queue: str) -> bool:
        """Return True if it may see what is in this queue, or in all that this pattern matches."""
        return self.may(Scope.READ, queue)

    def require(self, scope: Scope, queue: str | None = None) -> None:
        """Raises RightMissing where `may` is False."""
        if scope not in self.scopes:
            raise RightMissing(self.name, scope)
        if queue is not None and not self.covers(queue):
            raise RightMissing(self.name, scope, queue)

    def includes(self, scopes: Iterable[Scope], queue_patterns: Iterable[str]) -> bool:
        """Return True if it may do all that these scopes allow for these patterns."""
        return self.scopes.issuperset(scopes) and self.covers_all(queue_patterns)


ANYONE: Final = Caller("anyone", frozenset(Scope), (EVERY_QUEUE,))
"""Who calls a broker that asks for no token."""


def root(key: bytes) -> Caller:
    """Who has a token that the broker was started with."""
    return Caller(_ROOT, frozenset(Scope), (EVERY_QUEUE,), key)


def is_reserved(name: str) -> bool:
    """Return True for what callers without a token of the database are called, or what looks like it: the
    audit tells callers apart by their names alone."""
    return name.lower() in (_ROOT, ANYONE.name)
