"""Whoever interrupts a send may send: signal handlers, finalizers, functions at exit; forks find no lock."""

import subprocess
import sys

import pytest

from hyrex.v1 import task_pb2, task_service_pb2
from tests.support.scripted_tasks import ScriptedTasks, Server, stored

LONGEST_S = 100


@pytest.fixture(autouse=True)
def known(tasks: ScriptedTasks) -> None:
    """Whatever is sent can be read."""

    def answer(task: task_pb2.NewTask) -> task_service_pb2.SubmitResult:
        tasks.put(task_pb2.Task(task_id=task.task_id, name="add", status=task_pb2.TASK_STATUS_RUNNING))
        return stored(task)

    tasks.answer = answer


def run(*command: str) -> str:
    """What the program printed; it must end well, and say nothing on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.sdk.interrupting", *command],
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return done.stdout


@pytest.mark.parametrize("when", ["first", "later"])
def test_a_send_before_any_line_of_a_send_is_stored(server: Server, tasks: ScriptedTasks, when: str) -> None:
    count = int(run("interrupted", when))
    assert len({task.task_id for task in tasks.submitted}) == count + (when == "later")


def test_signal_handlers_send_while_the_main_thread_does(server: Server, tasks: ScriptedTasks) -> None:
    count = int(run("by_signals"))
    assert len({task.task_id for task in tasks.submitted}) == count


@pytest.mark.parametrize(
    ("outer", "inner", "when", "said"),
    [
        ("pydantic.main", "pydantic._internal._config", "asked for", "refused"),
        ("grpc", "grpc._cython.cygrpc", "looked for", "refused"),
        ("xmlrpc.client", "xml.parsers", "asked for", "queued"),
    ],
)
def test_a_handler_amid_an_import_sends_or_is_refused_at_once(
    server: Server, outer: str, inner: str, when: str, said: str
) -> None:
    assert run("by_a_handler_amid_an_import", outer, inner, when) == f"{said}\nqueued 0\n"


def test_finalizers_send_in_the_clients_own_thread(server: Server) -> None:
    assert run("by_finalizers") == "both\n"


def test_a_finalizer_in_another_thread_sends(server: Server) -> None:
    run("in_another_threads_finalizer")


@pytest.mark.parametrize(
    "module", ["grpc._cython.cygrpc", "pydantic_core", "hyrex.sending", "hyrex.arguments.payload"]
)
def test_a_fork_while_another_thread_sends_for_the_first_time_leaves_no_lock_held(
    server: Server, tasks: ScriptedTasks, module: str
) -> None:
    run("forked_during_the_first_send", module)
    assert sorted(task.payload for task in tasks.submitted) == [b'{"a":1}', b'{"a":2}']


@pytest.mark.parametrize(("when", "payload"), [("at first", b'{"a":{"red":1}}'), ("later", b'{"a":"0.5"}')])
def test_a_fork_while_another_thread_first_converts_a_kind_of_value_leaves_no_lock_held(
    server: Server, tasks: ScriptedTasks, when: str, payload: bytes
) -> None:
    run("forked_during_a_first_value", when)
    assert [task.payload for task in tasks.submitted].count(payload) == 2


@pytest.mark.parametrize("before", ["never sent", "after a send"])
def test_functions_at_exit_send(server: Server, before: str) -> None:
    assert run("at_exit", before) == "queued\nqueued\n"


@pytest.mark.parametrize(
    ("before", "calls"), [("never sent", 2), ("after a send", 3), ("a client is left", 3)]
)
def test_an_object_that_outlives_the_modules_is_refused_at_once(
    server: Server, before: str, calls: int
) -> None:
    assert run("at_the_interpreters_end", before) == calls * "refused\n"


@pytest.mark.parametrize("before", ["never sent", "after a send"])
def test_a_thread_that_outlives_the_main_one_sends(server: Server, before: str) -> None:
    assert run("in_a_thread_after_main", before) == 3 * "running\n"


def test_threads_that_gevent_has_replaced_are_refused_at_once(server: Server) -> None:
    assert run("patched", "all") == "refused\n"


def test_what_gevent_may_replace_is_no_reason_to_refuse(server: Server) -> None:
    assert run("patched", "but threads") == "queued\n"
