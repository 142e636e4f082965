"""A mistake in a call is told in the words of that call: what was given, and what to give instead."""

import socket
from collections.abc import Callable
from typing import Any

import pytest

import hyrex
from hyrex import HyrexApp, HyrexRegistry, TaskHandle
from hyrex.client.process import close_client
from hyrex.contrib.django import on_commit
from hyrex.handle import TaskHandle as Handle

hy = HyrexRegistry()
ID = "01890a5d-ac96-774b-bcce-b302099a8057"


@hy.task
def add(a: int) -> int:
    return a


def plug(wire: socket.socket, count: int = 1) -> None: ...


def wrong(value: object) -> Any:
    """A value that type checkers would refuse."""
    return value


def put(**options: Any) -> object:
    return hy.schedules.put("nightly", add.call(1), cron="@daily", **options)


@pytest.mark.parametrize(
    ("call", "kind", "told"),
    [
        (lambda: HyrexRegistry().task(name=wrong(3))(add), TypeError, "name must be a str, got 3"),
        (lambda: HyrexRegistry().task(name="")(plug), ValueError, "name must have 1..255 bytes"),
        (lambda: HyrexRegistry().task(lambda: 1), ValueError, "a lambda has no name: give the task one"),
        (lambda: HyrexApp("a").add_registry(wrong(hyrex)), TypeError, "takes a HyrexRegistry, got <module"),
        (
            lambda: HyrexApp("a").add_registry(wrong(HyrexApp("b"))),
            TypeError,
            "takes a HyrexRegistry, got <app",
        ),
        (lambda: hyrex.wait_all(wrong([1])), TypeError, "wants handles, as send.. returns them, got 1"),
        (lambda: hyrex.replay(ID, wrong([3])), TypeError, "a dict of its arguments by name, got .3."),
        (lambda: on_commit(wrong(print)), TypeError, "takes a task, got <built-in function print>"),
        (lambda: put(timezone="UTC"), TypeError, "schedules.put has no option 'timezone'; it has .*tz"),
        (lambda: put(jiter=3), TypeError, "schedules.put has no option 'jiter'; did you mean jitter?"),
        (
            lambda: HyrexRegistry().task(plug).send(wrong(3)),
            TypeError,
            "task plug: parameter 'wire': <class 'socket.socket'> has no form that can be sent; hint what",
        ),
    ],
)
def test_a_mistake_is_told_with_its_value_and_the_remedy(
    call: Callable[[], object], kind: type[Exception], told: str
) -> None:
    with pytest.raises(kind, match=told):
        call()


def test_a_wait_that_is_over_says_who_knows_what_the_task_waits_for() -> None:
    waiting: TaskHandle[int] = Handle(ID, "add")
    waiting._status = hyrex.TaskStatus.QUEUED
    with pytest.raises(TimeoutError, match=f"is queued after .*; hyrex task why {ID} says what it waits for"):
        waiting._known(0.0)


def test_reads_without_a_broker_name_the_remedy_as_sends_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYREX_BROKER_URL", "grpc://127.0.0.1:1")
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", "0.5")
    for ask in (
        lambda: hyrex.get_task(ID).refresh(),
        lambda: hyrex.get_task(ID).result(timeout=0.5),
        lambda: hyrex.send_many([add.call(1)]),
        lambda: hy.schedules.pause("nightly"),
        lambda: add.send(1),
    ):
        with pytest.raises(
            hyrex.BrokerUnavailable, match="Start one with `hyrex dev`, or set HYREX_BROKER_URL"
        ):
            ask()
    close_client()
