"""Which of the app's schedules a worker declares: those of the queues that it serves, in their own cell.

A broker of every cell that knew a schedule would store each of its slots once more.
"""

import logging

from hyrex.cells import CellRoutes, brokers_of, parse_cells
from hyrex.config import cells_text
from hyrex.runtime.patterns import known
from hyrex.worker.shared.child_messages import Imported, ScheduleInfo
from hyrex.worker.shared.options import WorkerOptions
from hyrex.worker.stream.convert import Registration

log = logging.getLogger("hyrex.worker")


def registration_of(options: WorkerOptions, app: Imported) -> Registration:
    """What each Hello of a worker says. The options are resolved."""
    serves = known(options.queues)
    schedules = [each for each in app.schedules if serves(each.task.queue)]
    if schedules and (text := cells_text()):
        schedules = _of_cell(schedules, parse_cells(text), options.broker_url)
    return Registration(options.name, options.queues, Imported(app.tasks, app.queues, schedules))


def _of_cell(schedules: list[ScheduleInfo], cells: CellRoutes, broker_url: str) -> list[ScheduleInfo]:
    """Those whose queue belongs to the cell of this worker's brokers."""
    ours = brokers_of(broker_url)
    own = [each for each in schedules if not ours.isdisjoint(brokers_of(cells.of(each.task.queue).url))]
    if len(own) < len(schedules):
        names = ", ".join(each.task.name for each in schedules if each not in own)
        is_cell = any(not ours.isdisjoint(brokers_of(cell.url)) for cell in cells.cells)
        log.log(
            logging.INFO if is_cell else logging.WARNING,
            "schedules that this worker does not declare, since HYREX_CELLS names other brokers than %s for "
            "their queues: %s; a worker of those brokers has to",
            broker_url,
            names,
        )
    return own
