"""`hyrex schedule`: tasks that are stored at the slots of cron expressions."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hyrex.cli import connection
from hyrex.cli.connection import DEFAULT_URL, AsJson, BrokerUrl, ask
from hyrex.cli.output import print_json, print_list, print_table, say
from hyrex.cli.paging import ask_every

if TYPE_CHECKING:
    import grpc.aio

commands = typer.Typer(help="Tasks that are stored at the slots of cron expressions.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]


@commands.command("list")
def list_schedules(broker_url: BrokerUrl = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List all schedules."""
    from hyrex.v1 import schedule_service_pb2 as pb
    from hyrex.v1.schedule_service_pb2_grpc import ScheduleServiceStub

    def rpc(channel: "grpc.aio.Channel") -> Any:
        return ScheduleServiceStub(channel).ListSchedules

    schedules = list(map(_values, ask_every(broker_url, rpc, pb.ListSchedulesRequest(), "schedules")))
    if as_json:
        print_list("schedules", schedules)
    else:
        _print(schedules)


@commands.command("pause")
def pause(name: Name, broker_url: BrokerUrl = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Store nothing at its slots until it is resumed."""
    _show(_ask(broker_url, "PauseSchedule", name=name).schedule, as_json)


@commands.command("resume")
def resume(name: Name, broker_url: BrokerUrl = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Go on with the next slot; what passed meanwhile is not made up for."""
    _show(_ask(broker_url, "PauseSchedule", name=name, resume=True).schedule, as_json)


@commands.command("trigger")
def trigger(name: Name, broker_url: BrokerUrl = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Store one task of it now. Prints the task's id."""
    from hyrex.backend.ids import new_task_id

    task_id = _ask(broker_url, "TriggerSchedule", name=name, task_id=new_task_id()).task_id
    if as_json:
        print_json({"schedule": name, "id": task_id})
    else:
        say(task_id)


@commands.command("backfill")
def backfill(
    name: Name,
    start: Annotated[str, typer.Argument(metavar="FROM", help="ISO 8601; without a zone: UTC.")],
    until: Annotated[str, typer.Argument(metavar="[UNTIL]", help="Before this time; now.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be stored.")] = False,
    broker_url: BrokerUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Store the tasks of slots that have passed and have none."""
    times: dict[str, Any] = {"from": _moment(start)}
    if until:
        times["until"] = _moment(until)
    answer = _ask(broker_url, "BackfillSchedule", name=name, dry_run=dry_run, **times)
    slots = [
        {"slot": each.slot_at.ToDatetime(tzinfo=UTC), "id": each.task_id or None} for each in answer.slots
    ]
    if as_json:
        print_json({"schedule": name, "dry_run": dry_run, "stored": answer.stored, "slots": slots})
        return
    print_table(("slot", "id"), [(each["slot"], each["id"]) for each in slots], "no slots in that time")
    say(f"{answer.stored} {'would be' if dry_run else 'were'} stored")


@commands.command("delete")
def delete(name: Name, broker_url: BrokerUrl = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Remove a schedule; what it stored stays. One that code declares comes back: pause it instead."""
    connection.delete(broker_url, _call("DeleteSchedule", name=name), "PEER_NOT_FOUND")
    if as_json:
        print_json({"schedule": name, "deleted": True})
    else:
        say(f"deleted schedule {name}")


def _ask(broker_url: str, method: str, **fields: Any) -> Any:
    return ask(broker_url, _call(method, **fields))


def _call(method: str, **fields: Any) -> "Callable[[grpc.aio.Channel], Awaitable[Any]]":
    from hyrex.v1 import schedule_service_pb2 as pb
    from hyrex.v1.schedule_service_pb2_grpc import ScheduleServiceStub

    request = getattr(pb, f"{method}Request")(**fields)

    async def call(channel: "grpc.aio.Channel") -> Any:
        return await getattr(ScheduleServiceStub(channel), method)(request)

    return call


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        words = f"{text!r} is no time; give one as in 2026-03-01 or 2026-03-01T09:00+01:00"
        raise typer.BadParameter(words) from None


def _values(schedule: Any) -> dict[str, Any]:
    from hyrex.cli.wire import moment, word
    from hyrex.v1 import schedule_pb2
    from hyrex.v1 import schedule_service_pb2 as pb

    wanted = schedule.definition
    return {
        "name": wanted.name,
        "task": wanted.task.name,
        "queue": wanted.task.queue,
        "cron": wanted.cron,
        "tz": wanted.timezone,
        "catch_up": word(schedule_pb2.CatchUp, wanted.catch_up),
        "jitter_seconds": wanted.jitter.ToTimedelta().total_seconds(),
        "paused": schedule.paused,
        "source": word(pb.ScheduleSource, schedule.source),
        "next": None if schedule.paused else moment(schedule, "next_at"),
        "last": moment(schedule, "last_slot_at"),
        "last_id": schedule.last_task_id or None,
    }


def _show(schedule: Any, as_json: bool) -> None:
    values = _values(schedule)
    if as_json:
        print_json(values)
    else:
        _print([values])


def _print(schedules: list[dict[str, Any]]) -> None:
    columns = ("name", "task", "queue", "cron", "tz", "next", "last", "paused", "source")
    print_table(columns, [tuple(each[column] for column in columns) for each in schedules], "no schedules")
