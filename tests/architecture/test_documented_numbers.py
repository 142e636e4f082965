"""Numbers that pages state are those of the code."""

import inspect
import re
from typing import Final

import pytest

from hyrex.client import submitter
from hyrex.config import DEFAULT_BROKER_URL, DEFAULT_SEND_TIMEOUT_S
from hyrex.options import NAME_LIMIT_BYTES, TEXTS_LIMIT_BYTES
from hyrex.runtime import patterns
from hyrex.transport import connection, silence
from hyrex.worker.child import unknown_signature, watchdog
from hyrex.worker.shared import child_options
from hyrex.worker.shared.options import WorkerOptions
from hyrex.worker.stream import background_log, drain, process, reconnect, stream
from hyrex_broker import open_files
from hyrex_broker.config import DEFAULT_SCHEMA, BrokerConfig
from hyrex_broker.domain.model import DEFAULT_PRIORITY, HIGHEST_PRIORITY
from hyrex_broker.engine import batching, growth, shares, watch_room
from hyrex_broker.engine.dispatch import dispatcher, lane_schedule
from hyrex_broker.engine.liveness import heartbeats
from hyrex_broker.engine.sessions import session_room
from hyrex_broker.engine.submit import handoff
from hyrex_broker.engine.watches import FRAME_BYTES as WATCH_FRAME_BYTES
from hyrex_broker.service import (
    fields,
    groups,
    ids,
    inflight,
    listening,
    open_calls,
    outbox,
    queue_changes,
    reported,
    requests,
    submit,
    terms,
    unread,
    work,
    worker_convert,
)
from hyrex_broker.storage import listing, reads, report, settings, slack
from hyrex_broker.storage.assign import ASSIGN_PAYLOAD_BYTES, INLINE_PAYLOAD_BYTES
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.statements import load
from tests.support.pages import read, section

CONFIGURATION: Final = "docs/reference/configuration.md"
CONNECTIONS: Final = [
    inspect.signature(Database).parameters[name].default for name in ("hot_connections", "read_connections")
]
SERVER: Final = dict(listening._options(BrokerConfig(database_url="postgresql://localhost/hyrex")))
DRAIN_S: Final = WorkerOptions(target="app:app").drain_timeout_s
GRACE_S: Final = int(WorkerOptions(target="app:app").grace_s)
BROKER: Final = BrokerConfig(database_url="postgresql://localhost/hyrex")


def minutes_of_unknown() -> int:
    """Minutes for which a worker that does not know a task's arguments gives it back."""
    delay, longest = unknown_signature.FIRST_DELAY_S, unknown_signature.LONGEST_DELAY_S
    waits: list[float] = [min(delay * 2**times, longest) for times in range(unknown_signature.MOST_TIMES)]
    return round(sum(waits) / 60)


def size(number: int) -> str:
    """Bytes as pages write them."""
    return f"{number >> 20} MiB" if number >= 1 << 20 else f"{number >> 10} KiB"


def redelivery_delays() -> list[int]:
    """Seconds before each redelivery of a run that was alone, from the statement that decides them."""
    (found,) = set(re.findall(r"\(array\[([\d, ]+)\]\)\[least\(redeliveries", load("report")["report"]))
    delays = [int(each) // 1000 for each in found.split(",")]
    return [*delays, *delays[-1:] * report.REDELIVERIES_BOUND][: report.REDELIVERIES_BOUND]


def delays_in_words() -> str:
    *before, last = map(str, redelivery_delays())
    return f"{', '.join(before)} and {last} s"


LIMITS: Final = {
    "payload or result": size(BROKER.payload_limit_bytes),
    "tasks in a call or frame": f"{groups.MOST_TASKS:,}",
    "bytes of a frame on a stream": size(outbox.FRAME_BYTES),
    "name of a task or queue, idempotency key": f"{fields.NAME_BYTES} bytes",
    "headers of a task": size(terms.MAP_BYTES),
    "labels of a task": size(terms.MAP_BYTES),
    "delay, timeout, retry delay": f"{fields.LONGEST_MS // (366 * 86_400_000)} years",
    "age of a task's id when it is submitted": f"{ids._OLDEST_MS // 3_600_000} h",
    "time by which it may lie ahead": f"{ids._NEWEST_MS // 1000} s",
    "payload that is sent within an assignment": size(INLINE_PAYLOAD_BYTES),
    "in all of one statement": size(ASSIGN_PAYLOAD_BYTES),
    "leases of a session": f"{worker_convert.MOST_CAPACITY:,}",
    "runs that a worker has reported and that are not acknowledged": f"{work.MOST_UNACKNOWLEDGED:,}",
    "redeliveries of a run that was lost alone in its process": (
        f"{report.REDELIVERIES_BOUND}, after {delays_in_words()}"
    ),
    "releases of a task in a row": f"{report.RELEASES_BOUND}",
    "(queue, task name) pairs that a broker makes at once": f"{growth.AT_ONCE:,}",
    "then": f"{growth.PER_S:.0f} a second",
    "tasks watched at a time by one connection": f"{watch_room.MOST_OF_ONE:,}",
    "by all together": f"{watch_room.MOST_IN_ALL:,}",
    "sessions that a broker serves at a time": f"{session_room.MOST_SESSIONS:,}",
    "highest maximum of what may wait in a queue": f"{queue_changes.HIGHEST_MAX_WAITING:,}",
    "retention of finished tasks": f"{BROKER.retention_days} days",
    "of those that failed, timed out or were lost": f"{BROKER.dead_letter_days} days",
}


def test_the_page_of_limits_states_those_of_the_code_and_no_others() -> None:
    items = re.split(r"^- ", section(CONFIGURATION, "Limits"), flags=re.MULTILINE)[1:]
    parts = [part for item in items for part in re.split(r"; ", " ".join(item.split()))]
    stated = {part.partition(": ")[0]: part.partition(": ")[2] for part in parts if ": " in part}
    (stated["then"],) = [part.removeprefix("then ") for part in parts if part.startswith("then ")]
    assert stated.keys() == LIMITS.keys()
    for label, value in LIMITS.items():
        assert re.match(rf"{re.escape(value)}(?![\d,.]*\d)", stated[label]), f"{label}: {stated[label]}"


def test_the_sdk_refuses_what_the_broker_would() -> None:
    assert NAME_LIMIT_BYTES == fields.NAME_BYTES
    assert TEXTS_LIMIT_BYTES == terms.MAP_BYTES
    assert outbox.FRAME_BYTES == WATCH_FRAME_BYTES


@pytest.mark.parametrize(
    ("variable", "default"),
    [
        ("HYREX_BROKER_URL", f"`{DEFAULT_BROKER_URL}`"),
        ("HYREX_SEND_TIMEOUT", f"{DEFAULT_SEND_TIMEOUT_S:.0f}"),
        ("HYREX_SCHEMA", f"`{DEFAULT_SCHEMA}`"),
    ],
)
def test_the_defaults_of_variables_are_those_of_the_code(variable: str, default: str) -> None:
    assert f"- `{variable}` ({default}): " in read(CONFIGURATION)


# A page, and words of it with a number that the code decides.
OPERATE: Final = "docs/howto/operate.md"
DEPLOYMENT: Final = "docs/operating/deployment.md"
POSTGRES: Final = "docs/operating/postgres.md"
UPGRADES: Final = "docs/operating/upgrade.md"
PROTOCOL: Final = "docs/reference/protocol.md"
API: Final = "docs/reference/api.md"
CONCEPTS: Final = "docs/concepts.md"
PROMISES: Final = "docs/promises.md"
RULES: Final = "docs/architecture/rules.md"
WORDS: Final = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight")
STATED: Final[list[tuple[str, str]]] = [
    (
        POSTGRES,
        f"{CONNECTIONS[0]} for the statements of submits, assignments and reports, {CONNECTIONS[1]} for",
    ),
    (
        DEPLOYMENT,
        f"before SIGKILL: a broker {BROKER.drain_timeout_s + 20:.0f} s and a worker {DRAIN_S + 20:.0f} s",
    ),
    (POSTGRES, f"older than the retention ({BROKER.retention_days} days, `--retention-days`)"),
    (POSTGRES, f"for {BROKER.dead_letter_days} days (`--dead-letter-days`)"),
    (POSTGRES, f"once a lease ({BROKER.granted_lease_s:g} s) has passed"),
    (OPERATE, f"its runs return after the lease ({BROKER.granted_lease_s:g} s)"),
    (OPERATE, f"lines beyond {background_log.MOST_RECORDS:,} are dropped"),
    (POSTGRES, f"one plan serves up to {lane_schedule.MOST_RUNS:,} lanes"),
    (OPERATE, f"keeps {open_files.RESERVE} for itself and Postgres"),
    (OPERATE, f"healthy but slow gets {connection.FIRST_PATIENCE_S} s, and twice as long"),
    (OPERATE, f"no answer within {silence.SILENCE_S:.0f} s"),
    (OPERATE, f"After {connection.RETURN_AFTER_S:.0f} s a client returns"),
    (
        UPGRADES,
        f"after {unknown_signature.FIRST_DELAY_S} s, then twice as long each time, "
        f"{unknown_signature.LONGEST_DELAY_S:.0f} s at most",
    ),
    (UPGRADES, f"After {unknown_signature.MOST_TIMES} times, about {minutes_of_unknown()} minutes"),
    (API, f"{size(TEXTS_LIMIT_BYTES)} each"),
    (API, f"up to {child_options.MOST_AWAITING:,} of them in a process"),
    (API, f"After {WORDS[child_options.ON_ERROR_NS // 10**9]} seconds it is interrupted"),
    (
        API,
        f"{WORDS[GRACE_S].capitalize()} seconds later the process is killed",
    ),
    (CONCEPTS, f"a heartbeat every {BROKER.heartbeat_interval_s:.0f} s (a fifth of"),
    (CONCEPTS, f"a lease of {BROKER.granted_lease_s:g} s, half"),
    (CONCEPTS, f"runs alone, up to {WORDS[report.REDELIVERIES_BOUND]} times more"),
    (PROMISES, f"expires after {BROKER.granted_lease_s:g} s of database time"),
    (PROMISES, f"The broker ends the run, {slack._WORKER_MS // 1000} s and a lease after it"),
    (PROMISES, f"closed after {SERVER['grpc.server_handshake_timeout_ms'] // 1000} s"),
    (OPERATE, f"stay silent for {SERVER['grpc.server_handshake_timeout_ms'] // 1000} s"),
    (PROTOCOL, f"pings at most every {SERVER['grpc.http2.min_ping_interval_without_data_ms'] // 1000} s"),
    (PROMISES, f"above {size(open_calls.MOST_BYTES)} it is refused"),
    (
        PROMISES,
        f"{open_calls.MOST_STREAMS_EACH} streams for each connection, {open_calls.MOST_STREAMS:,} in all",
    ),
    (
        PROMISES,
        f"above {size(inflight.CONNECTION_BYTES)} for a connection or {size(inflight.BROKER_BYTES)} in all",
    ),
    (PROMISES, f"after {inflight.PATIENCE_S:.0f} s it is refused with a RetryInfo"),
    (PROMISES, f"{open_files.RESERVE} files are kept for Postgres"),
    (PROMISES, f"below {size(listening._MESSAGE_LIMIT)}, watches in frames of {size(WATCH_FRAME_BYTES)}"),
    (PROMISES, f"{unread.AT_ONCE} calls of a connection are at work at a time"),
    (PROMISES, f"of a task's older runs {size(reads.RUNS_BYTES)} are read"),
    (PROMISES, f"a broker makes {growth.AT_ONCE:,} (queue, task name) pairs"),
    (PROMISES, f"{worker_convert.MOST_PATTERNS} patterns of {patterns.MOST_STARS} stars"),
    (PROMISES, f"may go on for up to {watchdog._TICK_S * 1000:.0f} ms"),
    (RULES, f"minus {settings.LONGEST_STATEMENT.seconds} s, whichever is lower"),
    (
        RULES,
        f"between {ids._OLDEST_MS // 3_600_000} hours ago and {ids._NEWEST_MS // 1000} seconds ahead",
    ),
    (RULES, f"A frame has at most {size(outbox.FRAME_BYTES)}, or one item"),
    ("docs/adr/0005-lanes.md", f"a statement's time ({settings._HOT_TIMEOUT_MS / 1000} s at most)"),
    ("docs/adr/0005-lanes.md", f"a plan's {lane_schedule.MOST_RUNS:,} runs"),
    ("docs/adr/0005-lanes.md", f"once {dispatcher._KEEP_AFTER_ROWS:,} rows are dead"),
    ("docs/adr/0006-hand-off.md", f"at least {handoff._LARGE_BATCH} tasks"),
    ("docs/adr/0006-hand-off.md", f"within {handoff._LONGEST_WAIT_S * 1000:.0f} ms"),
    ("docs/adr/0008-merging.md", f"at most {batching.BATCH_ITEMS:,} items and {size(batching.BATCH_BYTES)}"),
    ("docs/adr/0008-merging.md", f"batches of up to {shares.AHEAD} items"),
    ("docs/adr/0008-merging.md", f"{submit._BUDGET:,} tasks are checked or stored at a time"),
    ("docs/adr/0008-merging.md", f"{submitter.EXPECT_S * 1000:.0f} ms at the most"),
    (PROTOCOL, f"`queue_patterns`: 1 to {worker_convert.MOST_PATTERNS} names"),
    (PROTOCOL, f"0 to {worker_convert.MOST_CAPACITY:,}; 1 to {worker_convert.MOST_POOLS} pools"),
    (PROTOCOL, f"limits 0 to {worker_convert.HIGHEST_LIMIT:,}"),
    (PROTOCOL, f"priority 0 to {HIGHEST_PRIORITY},"),
    (PROTOCOL, f"`protocol_version` ({worker_convert.PROTOCOL_VERSION})"),
    (PROTOCOL, f"within {work._HELLO_WITHIN_S:.0f} s of opening it"),
    (PROTOCOL, f"exactly what is held as of now; at most {worker_convert.MOST_CAPACITY:,}."),
    (PROTOCOL, f"One acknowledgement names at most {heartbeats.MOST_VOID:,}"),
    (PROTOCOL, f"1 to {reported.MOST_RUNS:,} runs together"),
    (PROTOCOL, f"takes up to {groups.MOST_TASKS:,} `NewTask`"),
    (PROTOCOL, f"`WatchTasks`** takes up to {requests.MOST_IDS:,} ids"),
    (PROTOCOL, f"a broker repeats a submit for {submit._PATIENCE_S:.0f} s"),
    (
        PROTOCOL,
        f"{ids._OLDEST_MS // 3_600_000} hours before and {ids._NEWEST_MS // 1000} seconds after",
    ),
    (PROTOCOL, f"priority {DEFAULT_PRIORITY}, no retries"),
    (PROTOCOL, f"Each map holds at most {size(terms.MAP_BYTES)}"),
    (PROTOCOL, f"a page also ends after {listing._TIME_BUDGET_S} s of searching".capitalize()),
    (PROTOCOL, f"**Largest message**: {size(listening._MESSAGE_LIMIT)} each way"),
    (PROTOCOL, f"**Calls at a time**: {listening._STREAMS_OF_A_CONNECTION:,} on one connection"),
    (PROTOCOL, f"**Largest payload or result**: {size(BROKER.payload_limit_bytes)}"),
    (PROTOCOL, f"expires {BROKER.granted_lease_s:g} s (by default) after its last renewal"),
    (PROTOCOL, f"After {report.RELEASES_BOUND} releases in a row"),
    (PROTOCOL, f"at most {report.REDELIVERIES_BOUND} times, after {delays_in_words()}"),
    (PROTOCOL, f"when {size(outbox._URGENT_BYTES)} of acknowledgements wait"),
    (PROTOCOL, f"shows no frame for {stream._SILENT_INTERVALS} heartbeat intervals"),
    (PROTOCOL, f"to at most {reconnect._LONGEST_BACKOFF_S:.0f} s"),
    (PROTOCOL, f"{slack._WORKER_MS // 1000} s and a `lease_duration`"),
    (
        PROTOCOL,
        f"more bytes in flight than a connection ({size(inflight.CONNECTION_BYTES)}) or the broker "
        f"({size(inflight.BROKER_BYTES)}) may have for longer than {inflight.PATIENCE_S:.0f} s",
    ),
]


@pytest.mark.parametrize(("page", "words"), STATED, ids=lambda text: text[:40])
def test_the_page_states_the_number_of_the_code(page: str, words: str) -> None:
    assert words in " ".join(read(page).split())


def test_a_worker_drains_within_the_time_that_operators_are_told_to_give_it() -> None:
    """Beyond its drain timeout: asking, killing, the last acknowledgements, Goodbye and the log."""
    beyond = GRACE_S + 2.0 + drain._DEAD_WITHIN_S + drain._ACKNOWLEDGED_WITHIN_S
    assert beyond + process._GOODBYE_WITHIN_S + process._LOG_WITHIN_S <= 20
