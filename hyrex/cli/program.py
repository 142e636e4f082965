"""The program `hyrex`: its commands, and the place where errors become one line of text."""

import os
import sys
from importlib.metadata import version as installed_version
from typing import Annotated

import typer

from hyrex.cli import (
    broker,
    bulk_commands,
    dashboard,
    dev,
    doctor,
    gateway,
    init,
    outbox,
    outbox_rows,
    queue,
    run_broker,
    run_worker,
    schedule,
    task,
    task_complete,
    task_failures,
    task_link,
    task_list,
    task_look,
    task_replay,
    task_send,
    token,
    top,
    verify,
    worker,
    workflow,
)
from hyrex.cli.errors import CommandError
from hyrex.cli.output import make_writable, printable, say

program = typer.Typer(
    name="hyrex",
    help="Durable task queues in Postgres, streamed to workers over gRPC.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
program.command("dev")(dev.dev)
program.command("init")(init.init)
program.command("run-broker")(run_broker.run_broker)
program.command("gateway")(gateway.gateway)
program.command("dashboard")(dashboard.dashboard)
program.command("run-worker")(run_worker.run_worker)
program.command("doctor")(doctor.doctor)
program.command("verify")(verify.verify)
program.command("migrate")(run_broker.migrate)
program.command("top")(top.top)
task.commands.command("list")(task_list.list_tasks)
task.commands.command("send")(task_send.send)
task.commands.command("replay")(task_replay.replay)
task.commands.command("complete")(task_complete.complete)
task.commands.command("link")(task_link.link)
task.commands.command("failures")(task_failures.failures)
task.commands.command("why")(task_look.why)
task.commands.command("tail")(task_look.tail)
program.add_typer(task.commands, name="task")
program.add_typer(queue.commands, name="queue")
outbox.commands.command("list")(outbox_rows.list_rows)
outbox.commands.command("retry")(outbox_rows.retry)
outbox.commands.command("dismiss")(outbox_rows.dismiss)
program.add_typer(outbox.commands, name="outbox")
program.add_typer(schedule.commands, name="schedule")
program.add_typer(workflow.commands, name="workflow")
program.add_typer(worker.commands, name="worker")
program.add_typer(broker.commands, name="broker")
program.add_typer(bulk_commands.commands, name="bulk")
program.add_typer(token.tokens, name="token")
program.add_typer(token.audit, name="audit")


@program.command()
def version() -> None:
    """Print the version."""
    say(f"hyrex {installed_version('hyrex')}")


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@program.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """Durable task queues in Postgres, streamed to workers over gRPC."""


def run() -> None:
    """Run the command of sys.argv and exit."""
    make_writable()
    try:
        _run()
    except CommandError as error:
        _end(str(error), error.status)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if os.environ.get("HYREX_DEBUG"):
            raise
        _end(_words(error), 1)


def _run() -> None:
    """Run the command, then flush its output, so that a full disk is reported as an error."""
    try:
        program()
    finally:
        if sys.stdout is not None:
            try:
                sys.stdout.flush()
            except OSError as error:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what Python flushes at its end
                if not isinstance(error, BrokenPipeError):
                    raise CommandError(f"cannot write the output: {error}") from None


def _words(error: BaseException) -> str:
    """One line for an error that no command expects; of a group, its first error that is no group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, OSError | CommandError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _end(text: str, status: int) -> None:
    typer.secho(f"error: {printable(text)}", err=True, fg=typer.colors.RED)
    sys.exit(status)
