"""Schedules: tasks that brokers store at the slots of cron expressions; changed from code that runs.

Each call goes to a broker at once, on a connection of its own: they are few. What a task's decorator says
with `cron=` its worker declares by itself. With cells a schedule is in that of the queue of its tasks.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from hyrex.backend.encoding import encoded
from hyrex.call import TaskCall
from hyrex.codec import CODECS
from hyrex.errors import RuntimeUnsupported, loaded
from hyrex.options import checked_name, checked_schedule, checked_seconds
from hyrex.other_names import knows_its_options
from hyrex.runtime.callsite import warn_if_on_loop
from hyrex.schedule import CatchUp, Schedule, ScheduleSlot

if TYPE_CHECKING:
    from hyrex.config import Settings
    from hyrex.handle import TaskHandle
    from hyrex.transport.schedules import ScheduleCalls

__all__ = ["Schedules"]

T = TypeVar("T")
LONGEST_JITTER_S: Final = 86_400.0


class Schedules:
    """What `hy.schedules` is. Each method raises BrokerUnavailable or CallRejected; `_async` ones do not
    block the running loop.

    `queue`: with several cells (HYREX_CELLS), a queue of the cell that is asked. Without it those methods
    raise ValueError there, since a name does not tell the cell. put() knows it by its task.
    """

    def put(self, name: str, call: TaskCall[Any], cron: str, **options: Any) -> Schedule:
        """Have `call` (of `task.call(...)`) stored at each slot; changes the schedule of this name.

        Options: `tz` ("UTC"), `catch_up` ("latest", or "all" up to a hundred missed slots), `jitter` (seconds
        or a timedelta, less than from one slot to the next), `paused` (of a new one). Raises ValueError or
        TypeError for what is not valid.
        """
        wanted = _wanted(name, call, cron, **options)
        return _on_this_thread("put", _queue_of(call), lambda calls: calls.put(**wanted))

    async def put_async(self, name: str, call: TaskCall[Any], cron: str, **options: Any) -> Schedule:
        """As put()."""
        wanted = _wanted(name, call, cron, **options)
        return await _calls("put", _queue_of(call)).in_thread(lambda calls: calls.put(**wanted))

    def list(self, *, queue: str | None = None) -> "Sequence[Schedule]":
        """All that the token may see, by name."""
        return _on_this_thread("list", queue, lambda calls: calls.list())

    async def list_async(self, *, queue: str | None = None) -> "Sequence[Schedule]":
        """As list()."""
        return await _calls("list", queue).in_thread(lambda calls: calls.list())

    def pause(self, name: str, *, queue: str | None = None) -> Schedule:
        """Store nothing at its slots until it is resumed."""
        return _on_this_thread("pause", queue, lambda calls: calls.pause(name, resume=False))

    async def pause_async(self, name: str, *, queue: str | None = None) -> Schedule:
        """As pause()."""
        return await _calls("pause", queue).in_thread(lambda calls: calls.pause(name, resume=False))

    def resume(self, name: str, *, queue: str | None = None) -> Schedule:
        """Go on with the next slot; what passed meanwhile is not made up for."""
        return _on_this_thread("resume", queue, lambda calls: calls.pause(name, resume=True))

    async def resume_async(self, name: str, *, queue: str | None = None) -> Schedule:
        """As resume()."""
        return await _calls("resume", queue).in_thread(lambda calls: calls.pause(name, resume=True))

    def trigger(self, name: str, *, queue: str | None = None) -> "TaskHandle[Any]":
        """Store one task of it now; returns its handle."""
        return _handle(_on_this_thread("trigger", queue, lambda calls: calls.trigger(name)))

    async def trigger_async(self, name: str, *, queue: str | None = None) -> "TaskHandle[Any]":
        """As trigger()."""
        return _handle(await _calls("trigger", queue).in_thread(lambda calls: calls.trigger(name)))

    def backfill(
        self,
        name: str,
        start: datetime,
        end: datetime | None = None,
        *,
        dry_run: bool = False,
        queue: str | None = None,
    ) -> "Sequence[ScheduleSlot]":
        """Store the tasks of slots from `start` on and before `end` (now) that have none; returns the slots.

        `dry_run`: store nothing; slots without a task id would get one.
        """
        return _on_this_thread("backfill", queue, lambda calls: calls.backfill(name, start, end, dry_run))

    async def backfill_async(
        self,
        name: str,
        start: datetime,
        end: datetime | None = None,
        *,
        dry_run: bool = False,
        queue: str | None = None,
    ) -> "Sequence[ScheduleSlot]":
        """As backfill()."""
        return await _calls("backfill", queue).in_thread(
            lambda calls: calls.backfill(name, start, end, dry_run)
        )

    def delete(self, name: str, *, queue: str | None = None) -> None:
        """Remove it; what it stored stays. One that code declares comes back with its next worker."""
        _on_this_thread("delete", queue, lambda calls: calls.delete(name))

    async def delete_async(self, name: str, *, queue: str | None = None) -> None:
        """As delete()."""
        await _calls("delete", queue).in_thread(lambda calls: calls.delete(name))


def _on_this_thread(verb: str, queue: str | None, call: "Callable[[ScheduleCalls], T]") -> T:
    warn_if_on_loop(f"schedules.{verb}")
    return call(_calls(verb, queue))


def _calls(verb: str, queue: str | None) -> "ScheduleCalls":
    backend = loaded("hyrex.client.process").current_backend()
    settings = getattr(backend, "settings", None)
    if settings is None:
        raise RuntimeUnsupported(
            "an inline test has no broker, so it has no schedules; send the task instead"
        )
    url = _url_of(settings, verb, queue)
    calls: ScheduleCalls = loaded("hyrex.transport.schedules").ScheduleCalls(settings, url)
    return calls


def _url_of(settings: "Settings", verb: str, queue: str | None) -> str:
    """The brokers to ask. Raises ValueError if it is not said of which cell."""
    cells = settings.cells
    if queue is not None:
        checked_name("queue", queue)
    if cells is None:
        return settings.broker_url
    if queue is not None:
        return cells.of(queue).url
    if len(cells.cells) == 1:
        return cells.cells[0].url
    raise ValueError(
        f"HYREX_CELLS has {len(cells.cells)} cells, and schedules.{verb}() is about one of them: say which "
        f"with queue=, the name of a queue of it. {cells.listed()}"
    )


def _queue_of(call: TaskCall[Any]) -> str:
    return call._spec.config.queue


def _handle(task_id: str) -> "TaskHandle[Any]":
    handle: TaskHandle[Any] = loaded("hyrex.handle").TaskHandle(task_id, "")
    return handle


def _instead_of(call: object) -> str:
    """What to write for a workflow, since brokers store none by themselves."""
    if not isinstance(call, loaded("hyrex.workflows.workflow").SendableWorkflow):
        return ""
    definition = loaded("hyrex.workflows.definition")
    return f"; give cron to a task that sends the workflow, {definition.AT_TIMES}"


@partial(knows_its_options, called="schedules.put")
def _wanted(
    name: str,
    call: TaskCall[Any],
    cron: str,
    *,
    tz: str = "UTC",
    catch_up: CatchUp = "latest",
    jitter: float | timedelta = 0,
    paused: bool = False,
) -> dict[str, Any]:
    checked_name("name", name)
    if not isinstance(call, TaskCall):
        raise TypeError(f"call must be what task.call(...) makes, got {call!r}{_instead_of(call)}")
    if catch_up not in ("latest", "all"):
        raise ValueError(f"catch_up must be 'latest' or 'all', got {catch_up!r}")
    jitter_s = checked_seconds("jitter", jitter)
    if jitter_s > LONGEST_JITTER_S:
        raise ValueError(f"jitter must be 0..{LONGEST_JITTER_S:.0f} seconds, got {jitter!r}")
    checked, tz = checked_schedule(cron, tz)
    if checked is None:
        raise TypeError("cron must be a str such as '0 9 * * *', got None")
    if jitter_s:
        loaded("hyrex.runtime.cron").Cron(cron, tz).require_shorter(jitter_s)
    return {
        "name": name,
        "spec": call._spec,
        "payload": encoded(call._spec, call._payload, lasting=True) if CODECS else call._payload,
        "cron": cron,
        "tz": tz,
        "catch_up": catch_up,
        "jitter_s": jitter_s,
        "paused": bool(paused),
    }
