"""`hyrex run-worker`: a worker, for production."""

from typing import Annotated

import typer

from hyrex.cli.app_dir import AppDir, use_app_dir
from hyrex.cli.errors import CommandError
from hyrex.cli.variables import warn_of_misspelt


def run_worker(
    target: Annotated[
        str, typer.Argument(metavar="MODULE:APP", help="Where the HyrexApp or HyrexRegistry is.")
    ],
    app_dir: AppDir = None,
    queue: Annotated[
        list[str] | None,
        typer.Option("-q", "--queue", metavar="PATTERN", help="Queues to serve; repeat it (*)."),
    ] = None,
    processes: Annotated[
        int, typer.Option("-p", "--processes", help="Processes for sync tasks; 0: usable CPUs.")
    ] = 0,
    threads: Annotated[int, typer.Option("-t", "--threads", help="Threads in each of them.")] = 1,
    async_processes: Annotated[int, typer.Option(help="Processes for async tasks.")] = 1,
    async_concurrency: Annotated[int, typer.Option(help="Async tasks at once in each.")] = 100,
    prefetch: Annotated[str, typer.Option(metavar="auto|N", help="Most leases ahead of a slot.")] = "auto",
    max_tasks_per_child: Annotated[int, typer.Option(help="Replace a child after so many; 0: never.")] = 0,
    max_memory_per_child: Annotated[
        int, typer.Option(metavar="MB", help="Replace a larger child; 0: never.")
    ] = 0,
    drain_timeout: Annotated[float, typer.Option(help="Seconds that running tasks get at the end.")] = 25.0,
    grace: Annotated[float, typer.Option(help="Seconds between asking a run to stop and killing it.")] = 5.0,
    name: Annotated[str, typer.Option(help="A name for people (host-pid).")] = "",
    broker_url: Annotated[
        str, typer.Option(envvar="HYREX_BROKER_URL", help="grpc://host:port, several with commas.")
    ] = "",
    token: Annotated[
        str, typer.Option(help="What the broker wants to see (HYREX_TOKEN); `ps` shows it.")
    ] = "",
    metrics: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where Prometheus reads (off).")] = "",
    log_format: Annotated[str, typer.Option(metavar="text|json", help="How lines are logged.")] = "text",
) -> None:
    """Run the tasks of MODULE:APP until SIGTERM or Ctrl-C."""
    from hyrex.worker.launcher.supervisor import run_worker as run
    from hyrex.worker.shared.options import WorkerOptions

    warn_of_misspelt()
    use_app_dir(app_dir)
    try:
        options = WorkerOptions(
            target=target,
            queues=tuple(queue or ("*",)),
            processes=processes,
            threads=threads,
            async_processes=async_processes,
            async_concurrency=async_concurrency,
            prefetch=_prefetch(prefetch),
            max_tasks_per_child=max_tasks_per_child,
            max_memory_per_child_mb=max_memory_per_child,
            drain_timeout_s=drain_timeout,
            grace_s=grace,
            name=name,
            broker_url=broker_url,
            token=token,
            metrics=metrics,
            log_format=log_format,
        )
    except ValueError as error:
        raise CommandError(str(error), status=2) from None
    raise typer.Exit(run(options))


def _prefetch(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdigit():
        raise CommandError(f"--prefetch wants 'auto' or a number, not {text!r}", status=2)
    return int(text)
