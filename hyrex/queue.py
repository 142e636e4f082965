"""Declares a queue in code."""

from dataclasses import dataclass

from hyrex.options import checked_count, checked_name
from hyrex.rate import checked_rate

__all__ = ["HyrexQueue", "queue_name"]


@dataclass(frozen=True, slots=True)
class HyrexQueue:
    """A queue by name. In the whole cluster, `concurrency_limit` of its tasks may run at once, and
    as many begin as `rate` says (`100/m`), `burst` of them together after a rest."""

    name: str
    concurrency_limit: int | None = None
    rate: str | None = None
    burst: int | None = None

    def __post_init__(self) -> None:
        checked_name("queue", self.name)
        if self.concurrency_limit is not None:
            checked_count("concurrency_limit", self.concurrency_limit, minimum=1)
        checked_rate(self.rate, self.burst)


def queue_name(queue: str | HyrexQueue) -> str:
    """The name of a queue that is given as a name or as a HyrexQueue."""
    return queue.name if isinstance(queue, HyrexQueue) else checked_name("queue", queue)
