"""A validated call of a task, to be sent together with others."""

from typing import Any, Generic, TypeVar

from hyrex.backend.send_spec import SendSpec

__all__ = ["TaskCall"]

R_co = TypeVar("R_co", covariant=True)


class TaskCall(Generic[R_co]):
    """A validated call, ready for send_many: the task, its options and its encoded arguments."""

    __slots__ = ("_payload", "_spec")

    def __init__(self, spec: SendSpec, payload: bytes) -> None:
        self._spec = spec
        self._payload = payload

    def __reduce__(self) -> tuple[Any, ...]:
        return TaskCall, (self._spec, self._payload)

    def __repr__(self) -> str:
        return f"<call of {self._spec.config.name}, {len(self._payload)} bytes>"
