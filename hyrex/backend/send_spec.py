"""What all sends of one task under one configuration share."""

from dataclasses import replace
from typing import Any, Final, Protocol

from hyrex.arguments.coder import TaskCoder
from hyrex.options import SendOptions, TaskConfig

__all__ = ["SendSpec", "SpecTask"]

SENT: Final = ("queue", "priority", "max_retries", "timeout_seconds")
"""What with_config may change of a task's own configuration."""


class SpecTask(Protocol):
    """What a send needs of its task."""

    config: TaskConfig
    _coder: TaskCoder

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

    def retry_delay_s(self, retry_number: int) -> float:
        """Seconds before retry number 1, 2, ...; never raises."""

    def _decode_result(self, result: bytes) -> Any:
        """The value of a stored result; raises ResultInvalid."""


class SendSpec:
    """A task, its configuration and the options of its sends. Nothing but `encoded` ever changes.

    A plain class, as Outgoing is; the transport keeps in `encoded` what is the same for every send.
    """

    __slots__ = ("config", "encoded", "options", "task")

    def __init__(
        self, task: SpecTask, config: TaskConfig, options: SendOptions, encoded: bytes | None = None
    ) -> None:
        self.task = task
        self.config = config
        self.options = options
        self.encoded = encoded

    def __reduce__(self) -> tuple[Any, ...]:
        """As the task and what differs from it: the task's own functions need not travel.

        With its options as they were encoded: made anew, a backoff by chance would be another task's.
        """
        own, mine = self.task.config, self.config
        changed = {name: getattr(mine, name) for name in SENT if getattr(mine, name) != getattr(own, name)}
        return _send_spec, (self.task, changed, self.options, self.encoded)


def _send_spec(
    task: SpecTask, changed: dict[str, Any], options: SendOptions, encoded: bytes | None
) -> SendSpec:
    return SendSpec(task, replace(task.config, **changed), options, encoded)
