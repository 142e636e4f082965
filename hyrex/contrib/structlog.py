"""Log context with structlog: `app.middleware(StructlogMiddleware())`. Needs structlog 21 or newer.

The processor `structlog.contextvars.merge_contextvars` shows it in each line.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from hyrex.context import HyrexContext
from hyrex.contrib.needs import needing
from hyrex.middleware import Middleware, RunInfo, SendInfo

with needing("structlog>=21"):
    from structlog.contextvars import bound_contextvars, get_contextvars

__all__ = ["StructlogMiddleware"]

PREFIX: Final = "log-"


class StructlogMiddleware(Middleware):
    """Binds task, task_id, queue and attempt for what a run and its error handler log.

    `carried` are names of context variables of the sender (a request id, a tenant) that its tasks carry as
    headers, so that what they log has them too, and so has what they send.
    """

    def __init__(self, *carried: str) -> None:
        for name in carried:
            if not isinstance(name, str) or not name:
                raise TypeError(f"StructlogMiddleware wants names of context variables, got {name!r}")
        self._carried = carried

    @contextmanager
    def around_run(self, run: RunInfo, /) -> Iterator[None]:
        """Within the block the run is executed."""
        with bound_contextvars(**self._fields(run.context)):
            yield

    @contextmanager
    def around_on_error(self, run: RunInfo, /) -> Iterator[None]:
        """Within the block its error handler is called."""
        with bound_contextvars(**self._fields(run.context)):
            yield

    @contextmanager
    def around_send(self, send: SendInfo, /) -> Iterator[None]:
        """Within the block the tasks are sent."""
        bound = get_contextvars()
        for name in self._carried:
            if name in bound:
                send.add_header(PREFIX + name, str(bound[name]))
        yield

    def _fields(self, context: HyrexContext) -> dict[str, str | int]:
        headers = context.headers
        carried = {name: headers[PREFIX + name] for name in self._carried if PREFIX + name in headers}
        return {
            **carried,
            "task": context.task_name,
            "task_id": str(context.task_id),
            "queue": context.queue,
            "attempt": context.attempt_number,
        }
