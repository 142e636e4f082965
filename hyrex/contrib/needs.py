"""The libraries that parts of contrib stand on, which not every installation has."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["needing"]


@contextmanager
def needing(package: str) -> Iterator[None]:
    """Around their imports: a ModuleNotFoundError says which package to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error.msg}; install it: pip install '{package}'", name=error.name
        ) from None
