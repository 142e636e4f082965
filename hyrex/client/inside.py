"""Which threads are in code that holds a lock: a signal handler that runs there must not wait for it."""

import threading

__all__ = ["Inside"]


class Inside:
    """The threads that hold, or are about to hold, a lock in a client."""

    __slots__ = ("threads",)

    def __init__(self) -> None:
        self.threads: set[int] = set()

    def __enter__(self) -> None:
        self.threads.add(threading.get_ident())

    def __exit__(self, *error: object) -> None:
        self.threads.discard(threading.get_ident())
