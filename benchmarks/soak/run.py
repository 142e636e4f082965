"""Runs a soak: loads the cluster, looks at it again and again, restarts its brokers, counts at the end."""

import threading
import time
from typing import Any, Final

import asyncpg

from benchmarks.processes import ProcessFailed
from benchmarks.rounds import say
from benchmarks.soak import samples
from benchmarks.soak.cluster import SoakCluster
from benchmarks.soak.record import Record
from benchmarks.stage import Stage, run

SAMPLES: Final = 720
RESTARTS: Final = ((1 / 3, 0), (1 / 2, 1))
"""When which broker is restarted, as a share of the time: one runs for two thirds of it, one for half."""
ANSWER_WITHIN_S: Final = 60.0
SENT_WITHIN_S: Final = 180.0
QUIET_WITHIN_S: Final = 180.0
PROGRESS_EVERY_S: Final = 60.0
_ENDS: Final = """
select (select count(*) from task t
        where not exists (select from task_run r where r.task_id = t.id and r.final)) as lost,
       (select count(*) from (select from task_run where final group by task_id having count(*) > 1) again)
         as twice,
       (select count(*) from task where parent_id is null) as stored
"""


class Soak:
    """One soak. `stop` ends the load early; the rest goes on as usual."""

    def __init__(self, stage: Stage, minutes: float, rate: float) -> None:
        self._stage = stage
        self._cluster = SoakCluster(stage)
        self._machine = samples.Machine()
        self.record = Record(minutes, rate)
        self.stop = threading.Event()

    def run(self) -> Record:
        """Load, look, restart, end, count. What goes wrong is among the record's complaints."""
        try:
            self._cluster.sender.ask(ANSWER_WITHIN_S, rate=self.record.rate)
            self._watch()
            self._end()
        except ProcessFailed as failed:
            self.record.complaints.append(str(failed))
        return self.record

    def _watch(self) -> None:
        length_s = self.record.minutes * 60
        every_s = max(length_s / SAMPLES, 1.0)
        restarts = [(share * length_s, number) for share, number in RESTARTS]
        began = told = samples.now_s()
        # However short it is, and however long a restart takes, all restarts belong to it.
        while ((at := samples.now_s() - began) < length_s or restarts) and not self.stop.is_set():
            self._look(at)
            if restarts and at >= restarts[0][0]:
                self._restart(restarts.pop(0)[1], began)
            if samples.now_s() - told > PROGRESS_EVERY_S:
                told = samples.now_s()
                say(f"  {at / 60:.0f} of {self.record.minutes:g} minutes: {self.record.counts}")
            self.stop.wait(every_s)
        self._look(samples.now_s() - began)

    def _look(self, at: float) -> None:
        if ended := self._cluster.ended():
            raise ProcessFailed(f"ended by itself: {', '.join(ended)}")
        taken = self._cluster.sender.ask(ANSWER_WITHIN_S, take=True)
        self._note(at, taken)
        sample = samples.process_readings(self._cluster.tops())
        sample |= samples.postgres_readings(self._stage.postmaster, len(self.record.restarts))
        sample |= run(_database(self._cluster.database)) | self._machine.readings()
        self.record.samples.append((at, sample))

    def _note(self, at: float, taken: dict[str, Any]) -> None:
        self.record.times_ms.append((at, taken["ms"]))
        self.record.counts = taken["counts"]

    def _restart(self, number: int, began: float) -> None:
        at = samples.now_s() - began
        self._cluster.restart_broker(number)
        self.record.restarts.append((at, f"broker-{number} restarted"))
        say(f"  broker-{number} restarted, in {samples.now_s() - began - at:.1f} s")

    def _end(self) -> None:
        self._note(self.record.seconds, self._cluster.sender.ask(SENT_WITHIN_S, end=True))
        if not self._quiet():
            self.record.complaints.append(f"tasks were still under way {QUIET_WITHIN_S:.0f} s after the load")
        row = self._stage.run_sql(self._cluster.database, _ENDS)[0][0]
        acknowledged = self.record.counts.get("acknowledged", 0)
        self.record.ends = {
            "stored": row["stored"],
            "acknowledged": acknowledged,
            "acknowledged and not stored": max(acknowledged - row["stored"], 0),
            "lost": row["lost"],
            "recorded twice": row["twice"],
        }
        failed = {
            name: count for name, count in self.record.counts.items() if name.startswith("failed waits")
        }
        if failed or self.record.counts.get("results not known in time"):
            self.record.complaints.append(f"waits that brought no result: {self.record.counts}")

    def _quiet(self) -> bool:
        until = time.monotonic() + QUIET_WITHIN_S
        while time.monotonic() < until:
            sample = run(_database(self._cluster.database))
            if not any(sample[name].value for name in ("ready", "delayed", "running")):
                return True
            time.sleep(0.5)
        return False


async def _database(url: str) -> samples.Sample:
    connection = await asyncpg.connect(url, timeout=ANSWER_WITHIN_S, command_timeout=ANSWER_WITHIN_S)
    try:
        return await samples.database_readings(connection)
    finally:
        await connection.close()
