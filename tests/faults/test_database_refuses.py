"""A database that is there and refuses, that is cut off, or that has slept for days: callers hear
STORAGE_UNAVAILABLE soon, health says so, the log says it once, and all goes on when it is mended."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from hyrex.errors import BrokerUnavailable, SubmitUnknown
from hyrex.v1 import task_pb2, task_service_pb2, task_service_pb2_grpc
from tests.faults import app
from tests.faults.field import PATIENCE_S, Field
from tests.integration.storage.stage import make_id
from tests.support.eventually import eventually
from tests.support.postgres import run_apart
from tests.support.processes import RunningBroker
from tests.support.roles import execute_now, role_of, role_with_few_rights

SERVING: Final = health_pb2.HealthCheckResponse.SERVING
STORED: Final = task_service_pb2.SUBMIT_OUTCOME_STORED
SOON_S: Final = 12.0
"""Two seconds of patience, and what a busy machine adds. Without them a call ends after `_CALL_S`."""
_CALL_S: Final = 20.0


@dataclass
class Caller:
    """Asks one broker; its answers are "stored", or a reason with its message."""

    broker: RunningBroker
    channel: grpc.Channel = field(init=False)

    def __post_init__(self) -> None:
        self.channel = grpc.insecure_channel(self.broker.address)
        self._tasks: Any = task_service_pb2_grpc.TaskServiceStub(self.channel)
        self._health: Any = health_pb2_grpc.HealthStub(self.channel)

    def submit(self) -> str:
        task = task_pb2.NewTask(task_id=make_id(), name="work", queue="default", payload=b"{}")
        try:
            response = self._tasks.SubmitTasks(
                task_service_pb2.SubmitTasksRequest(tasks=[task]), timeout=_CALL_S
            )
        except grpc.RpcError as error:
            return _reason(error)
        (result,) = response.results
        return "stored" if result.outcome == STORED else f"rejected: {result.error.message}"

    def get(self) -> str:
        try:
            self._tasks.GetTask(task_service_pb2.GetTaskRequest(task_id=make_id()), timeout=_CALL_S)
        except grpc.RpcError as error:
            return _reason(error)
        return "found"

    @property
    def serving(self) -> bool:
        answer = self._health.Check(health_pb2.HealthCheckRequest(), timeout=_CALL_S)
        return bool(answer.status == SERVING)

    def told(self) -> list[str]:
        """What the broker logged as a warning or worse, but for lines about sessions."""
        lines = self.broker.process.output.splitlines()
        return [line for line in lines if "WARNING" in line or "ERROR" in line or "Traceback" in line]


def _reason(error: Any) -> str:
    info = ErrorInfo()
    status = rpc_status.from_call(error)
    if status is None:
        return str(error.code())
    status.details[0].Unpack(info)
    return f"{info.reason}: {error.details()}"


@pytest.fixture
def role_url(field: Field) -> Iterator[str]:
    """The broker's login: its own role, which owns nothing."""
    with role_with_few_rights(field.database_url) as url:
        from hyrex_broker.storage.migrate import migrate

        run_apart(migrate(field.database_url, grant_to=role_of(url)))
        yield url
        field.processes.end()


@pytest.fixture
def caller(field: Field, role_url: str) -> Iterator[Caller]:
    made = Caller(field.processes.broker(role_url))
    yield made
    made.channel.close()


KICK: Final = "select pg_terminate_backend(pid) from pg_stat_activity where usename = '{role}'"
REFUSALS: Final[dict[str, tuple[list[str], list[str], str]]] = {
    "disk full": (
        [
            "create function full_disk() returns trigger language plpgsql as"
            " $$ begin raise exception 'no space left on device' using errcode = 'disk_full'; end $$",
            "create trigger full_disk before insert on task for each row execute function full_disk()",
        ],
        ["drop trigger full_disk on task"],
        "53100",
    ),
    "rights revoked": (
        ["revoke insert on ready from {role}"],
        ["grant insert on ready to {role}"],
        "42501",
    ),
    "table renamed": (["alter table ready rename to away"], ["alter table away rename to ready"], "42P01"),
    "login refused": (["alter role {role} nologin", KICK], ["alter role {role} login"], "28000"),
    "password changed": (
        ["alter role {role} password 'other'", KICK],
        ["alter role {role} password '{password}'"],
        "28P01",
    ),
    "too many connections": (
        ["alter role {role} connection limit 0", KICK],
        ["alter role {role} connection limit -1"],
        "53300",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_database_that_refuses_is_unavailable_and_said_once(
    field: Field, caller: Caller, role_url: str, case: str
) -> None:
    refuse, mend, state = REFUSALS[case]
    place = urlsplit(role_url)
    names = {"role": place.username, "password": place.password}
    assert caller.submit() == "stored"
    execute_now(field.database_url, *(statement.format(**names) for statement in refuse))
    began = time.monotonic()
    answer = caller.submit()
    assert time.monotonic() - began < SOON_S
    assert answer.startswith("STORAGE_UNAVAILABLE: ")
    assert state in answer
    eventually(lambda: not caller.serving, SOON_S)
    for _ in range(3):
        assert caller.submit().startswith("STORAGE_UNAVAILABLE: ")
    assert not caller.serving
    execute_now(field.database_url, *(statement.format(**names) for statement in mend))
    eventually(lambda: caller.serving, PATIENCE_S)
    assert caller.submit() == "stored"
    told = caller.told()
    assert len([line for line in told if "the database" in line]) <= 4, told
    assert not [line for line in told if "Traceback" in line], told


def test_a_sender_is_told_what_the_database_said(
    field: Field, caller: Caller, role_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYREX_BROKER_URL", caller.broker.url)
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", "4")
    app.once.send(1)
    execute_now(field.database_url, f"revoke insert on task from {role_of(role_url)}")
    with pytest.raises((BrokerUnavailable, SubmitUnknown)) as caught:
        app.once.send(2)
    assert "STORAGE_UNAVAILABLE: the database refuses: permission denied for table task" in str(caught.value)
    assert "no answer" not in str(caught.value)
    assert "hyrex dev" not in str(caught.value)


def test_a_broker_whose_database_is_cut_off_says_so_soon(field: Field) -> None:
    """Nothing answers and nothing is reset: what was under way is not waited for."""
    cable = field.proxy_to(field.database_url)
    location = urlsplit(field.database_url)
    through = location._replace(netloc=f"{location.netloc.rpartition('@')[0]}@{cable.address}").geturl()
    caller = Caller(field.processes.broker(through))
    assert caller.submit() == "stored"
    cable.silence()
    began = time.monotonic()
    assert caller.submit().startswith("STORAGE_UNAVAILABLE: ")
    assert time.monotonic() - began < 2 * SOON_S
    eventually(lambda: not caller.serving, SOON_S)
    for ask in (caller.submit, caller.get):
        began = time.monotonic()
        assert ask().startswith("STORAGE_UNAVAILABLE: ")
        assert time.monotonic() - began < SOON_S
    cable.heal()
    eventually(lambda: caller.serving, PATIENCE_S)
    began = time.monotonic()
    assert caller.submit() == "stored"
    assert caller.get().startswith("TASK_NOT_FOUND: ")
    assert time.monotonic() - began < SOON_S
    caller.channel.close()


def test_after_days_of_sleep_the_first_task_is_stored(field: Field) -> None:
    """The clock has jumped beyond every partition that was made ahead: nobody's fault, and soon mended."""
    caller = Caller(field.processes.broker(field.database_url))
    assert caller.submit() == "stored"
    today = datetime.now(UTC)
    days = [today + timedelta(days=ahead) for ahead in range(-2, 4)]
    execute_now(
        field.database_url,
        "delete from ready",
        *(f"drop table {parent}_{day:%Y%m%d}" for day in days for parent in ("task", "task_run")),
    )
    assert caller.submit() == "stored"
    assert caller.serving
    caller.channel.close()
