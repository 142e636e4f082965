"""Declares a queue in code."""

from dataclasses import dataclass

from hyrex.options import checked_count, checked_name

__all__ = ["HyrexQueue"]


@dataclass(frozen=True, slots=True)
class HyrexQueue:
    """A queue by name; `concurrency_limit` is how many of its tasks may run at once in the whole cluster."""

    name: str
    concurrency_limit: int | None = None

    def __post_init__(self) -> None:
        checked_name("queue", self.name)
        if self.concurrency_limit is not None:
            checked_count("concurrency_limit", self.concurrency_limit, minimum=1)
