"""Finds the user's app: imports `module:app` and describes what it registers."""

import functools
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from hyrex.app import HyrexApp, middleware_of_tasks
from hyrex.middleware import Middleware
from hyrex.queue import HyrexQueue
from hyrex.rate import checked_rate
from hyrex.registry import HyrexRegistry
from hyrex.runtime.app_import import importing_app
from hyrex.task import HyrexTask, coder_of
from hyrex.worker.shared.child_messages import Imported, QueueInfo, RateInfo, ScheduleInfo, TaskInfo


class TargetInvalid(Exception):
    """The target names no app; the text says what there is instead."""


@dataclass(frozen=True, slots=True)
class Target:
    """The parts of the user's app that a child needs."""

    tasks: Mapping[str, HyrexTask[..., Any]]
    queues: Mapping[str, HyrexQueue]
    lifespan: Callable[[], Any] | None = None  # returns a context manager, sync or async
    around: Mapping[str, Sequence[Middleware]] = field(default_factory=dict)  # by the name of a task

    def describe(self) -> Imported:
        """What the app registers, as Hello describes it."""
        return Imported(
            tasks=[_task_info(task) for task in self.tasks.values()],
            queues=[_queue_info(queue) for queue in self.queues.values()],
            schedules=[_schedule_info(task) for task in self.tasks.values() if task.config.cron is not None],
        )


def load_target(target: str) -> Target:
    """Import the target. Raises: TargetInvalid, and whatever the user's module raises."""
    module_name, _, attribute = target.partition(":")
    folder = app_dir()
    _refuse_file(module_name, attribute)
    _load_our_libraries()
    if str(folder) not in sys.path and not (folder == Path.cwd() and "" in sys.path):
        sys.path.insert(0, str(folder))
    try:
        with importing_app():
            module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            _hint_at_neighbour(error, module_name, folder)
            raise
        raise TargetInvalid(_no_module(module_name, folder)) from None
    found: Any = module
    for name in (attribute or "app").split("."):
        found = getattr(found, name, None)
    if not _is_app(found):
        raise TargetInvalid(_what_there_is(module, attribute or "app", found))
    tasks = dict(found.tasks)
    for task in tasks.values():
        coder_of(task).build()
    lifespan = getattr(found, "lifespan", None)
    entered = functools.partial(lifespan, found) if lifespan else None
    return Target(tasks, found.queues, entered, middleware_of_tasks(found))


def app_dir() -> Path:
    """The folder in which modules are looked for first: HYREX_APP_DIR (--app-dir), or the working directory.

    Raises: TargetInvalid.
    """
    folder = Path(os.environ.get("HYREX_APP_DIR") or os.getcwd()).resolve()
    if not folder.is_dir():
        raise TargetInvalid(f"HYREX_APP_DIR is {folder}: there is no such folder")
    return folder


def _load_our_libraries() -> None:
    """Import what the libraries used here would import later, while the user's folder is not on the path.

    Else they would import a file of the user that is called secrets.py or queue.py.
    """
    from pydantic import TypeAdapter

    for name in ("concurrent.futures.thread", "importlib.metadata", "queue", "secrets"):
        importlib.import_module(name)
    TypeAdapter(int)  # pydantic loads most of itself at the first use


def _refuse_file(module_name: str, attribute: str) -> None:
    path = Path(module_name)
    if path.suffix != ".py" and len(path.parts) == 1:
        return
    if not path.parts:
        raise TargetInvalid(f"':{attribute}' names no module; a target is MODULE:APP, for instance app:app")
    module = ".".join(path.with_suffix("").parts).removeprefix("src.").lstrip("/.")
    place = " --app-dir src" if path.parts[0] == "src" else ""
    raise TargetInvalid(
        f"{module_name!r} is a file, and a target is MODULE:APP as in an import; "
        f"try {module}:{attribute or 'app'}{place}"
    )


def _no_module(module_name: str, folder: Path) -> str:
    first = module_name.partition(".")[0]
    for place in ("src", "app", "lib"):
        if (folder / place / f"{first}.py").is_file() or (folder / place / first / "__init__.py").is_file():
            return (
                f"there is no module {module_name!r} in {folder}, but one in {place}/: add --app-dir {place}"
            )
    return f"there is no module {module_name!r} (looked in {folder} first; --app-dir names another folder)"


def _hint_at_neighbour(error: ModuleNotFoundError, module_name: str, folder: Path) -> None:
    """Add a hint to the error if the missing module lies beside the target's file, outside of the path."""
    place = Path(*module_name.split(".")[:-1])
    missing = (error.name or "").partition(".")[0]
    beside = folder / place / missing
    if place.parts and (beside.with_name(f"{missing}.py").is_file() or (beside / "__init__.py").is_file()):
        last = module_name.rpartition(".")[2]
        error.add_note(f"{missing} is in {place}/: try {last}:APP --app-dir {place}")


def _is_app(found: object) -> bool:
    return isinstance(found, HyrexApp | HyrexRegistry)


def _what_there_is(module: ModuleType, attribute: str, found: object) -> str:
    public = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    apps = [f"{module.__name__}:{name} ({type(v).__name__})" for name, v in public.items() if _is_app(v)]
    problem = (
        f"module {module.__name__!r} has no {attribute!r}"
        if found is None
        else f"{module.__name__}:{attribute} is a {type(found).__name__}, not a HyrexApp or HyrexRegistry"
    )
    if apps:
        return f"{problem}; it does contain: {', '.join(sorted(apps))}"
    return f"{problem}, nor any other HyrexApp or HyrexRegistry; it contains: {', '.join(sorted(public))}"


def _task_info(task: HyrexTask[..., Any]) -> TaskInfo:
    config = task.config
    return TaskInfo(
        name=task.name,
        queue=config.queue,
        is_async=task.is_async,
        max_concurrency=config.max_concurrency or 0,
        max_retries=config.max_retries,
        timeout_s=float(config.timeout_seconds or 0),
        priority=config.priority,
        handles_errors=config.on_error is not None,
        rate=_rate_info(config.rate, config.burst),
    )


def _queue_info(queue: HyrexQueue) -> QueueInfo:
    return QueueInfo(queue.name, queue.concurrency_limit or 0, _rate_info(queue.rate, queue.burst))


def _rate_info(text: str | None, burst: int | None) -> RateInfo | None:
    rate = checked_rate(text, burst)
    return None if rate is None else RateInfo(rate.count, rate.period_s, rate.burst)


def _schedule_info(task: HyrexTask[..., Any]) -> ScheduleInfo:
    config = task.config
    assert config.cron is not None
    payload = coder_of(task).encode_arguments()
    options = task._spec.keyed(payload).options
    return ScheduleInfo(
        task=_task_info(task),
        cron=config.cron,
        tz=config.tz,
        payload=payload,
        headers=dict(options.headers),
        labels=dict(options.labels),
        retry_delay_s=-1.0 if config.retry_backoff is None else task.retry_delay_s(1),
        expires_in_s=config.expires_in or 0.0,
        concurrency_key=options.concurrency_key or "",
        max_per_key=options.max_per_key if options.concurrency_key else 0,
        refuses=bool(options.concurrency_key) and options.on_full == "refuse",
        fair_key=options.fair_key or "",
    )
