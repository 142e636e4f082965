"""Errors that travel between processes whole."""

from typing import Any

__all__ = ["PortableError"]


class PortableError(BaseException):
    """An error that can be copied and pickled whatever its constructor takes: users' subclasses too."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args), self.__dict__ or None


def _restored(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    error: BaseException = kind.__new__(kind, *args)
    return error
