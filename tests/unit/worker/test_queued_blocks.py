"""Runs that wait in a child as a block, and their arguments."""

import socket
import threading
from collections.abc import Callable
from typing import Annotated, Any, cast

import pytest
from pydantic import AfterValidator

from hyrex import HyrexRegistry
from hyrex.arguments.limits import LOT
from hyrex.errors import ArgumentInvalid
from hyrex.worker.child.contexts import RunContexts
from hyrex.worker.child.parent_socket import ParentSocket
from hyrex.worker.child.queued_block import QueuedBlock
from hyrex.worker.child.runner import Workplace
from hyrex.worker.child.surroundings import Surroundings
from hyrex.worker.child.sync_runner import SyncRunner
from hyrex.worker.shared.memory import Ledger, TrustCell, boottime_ns, create_fd
from hyrex.worker.shared.outcome import Ending
from hyrex.worker.shared.runs import RunBlock, RunTerms

seen: list[int] = []


def noted(n: int) -> int:
    seen.append(n)
    return n


hy = HyrexRegistry()


@hy.task
def plain(n: int, text: str = "") -> None:
    pass


@hy.task
def checked(n: Annotated[int, AfterValidator(noted)]) -> None:
    pass


def block_of(payloads: list[bytes]) -> QueuedBlock:
    count = len(payloads)
    block = RunBlock(RunTerms("plain", "default"), list(range(count)), bytes(16 * count), payloads)
    return QueuedBlock(block, 1, "worker")


def numbered(count: int) -> list[bytes]:
    return [b'{"n":%d}' % n for n in range(count)]


def test_arguments_are_those_of_their_run_in_whatever_order_runs_begin() -> None:
    queued = block_of(numbered(2 * LOT + 5))
    order = [3, 1, 2, 0, *range(4, 2 * LOT + 5)]
    assert [queued.arguments(place, plain)["n"] for place in order] == order
    assert not any(queued.block.payloads)


def test_a_wrong_payload_of_a_lot_fails_its_own_run_alone() -> None:
    payloads = numbered(LOT)
    payloads[5] = b'{"n":"x"}'
    queued = block_of(payloads)
    found: dict[int, Any] = {}
    for place in range(LOT):
        if place == 5:
            with pytest.raises(ArgumentInvalid, match="plain: n"):
                queued.arguments(place, plain)
        else:
            found[place] = queued.arguments(place, plain)["n"]
    assert found == {n: n for n in range(LOT) if n != 5}


def test_code_of_the_user_validates_the_arguments_of_a_run_when_it_begins() -> None:
    seen.clear()
    queued = block_of(numbered(LOT))
    for place in range(3):
        queued.arguments(place, checked)
        assert seen == list(range(place + 1))


def test_large_arguments_are_not_decoded_before_their_run_begins() -> None:
    queued = block_of([b'{"n":%d,"text":"%s"}' % (n, b"x" * 100_000) for n in range(LOT)])
    assert queued.arguments(0, plain)["n"] == 0
    assert all(queued.block.payloads[1:])


def test_arguments_are_decoded_together_again_after_a_thread_came_late() -> None:
    queued = block_of(numbered(3 * LOT))
    assert [queued.arguments(place, plain)["n"] for place in (3, 1, LOT + 5)] == [3, 1, LOT + 5]
    assert not any(queued.block.payloads[LOT + 5 : 2 * LOT + 5])


def test_small_arguments_are_decoded_together() -> None:
    queued = block_of(numbered(LOT))
    assert queued.arguments(0, plain)["n"] == 0
    assert not any(queued.block.payloads)


class Interrupted(dict[int, dict[str, Any]]):
    """Decoded arguments: lets others act once somebody has looked so often, as soon as the lock is free."""

    def __init__(self, queued: QueuedBlock, looks: int, others: Callable[[], None]) -> None:
        super().__init__()
        self.looks = looks
        self.others = others
        self.lock = threading.Lock()
        queued._decoded, queued._lock = self, cast(threading.Lock, self)

    def pop(self, *given: Any) -> Any:
        found = super().pop(*given)
        self.looks -= 1
        self.act()
        return found

    def act(self) -> None:
        if self.looks <= 0 and not self.lock.locked():
            others, self.others = self.others, lambda: None
            others()

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()
        self.act()


def test_arguments_that_another_thread_decodes_with_the_last_lot_are_found() -> None:
    queued = block_of(numbered(LOT + 3))

    def others() -> None:
        assert [queued.arguments(place, plain)["n"] for place in (0, LOT)] == [0, LOT]

    Interrupted(queued, 1, others)
    assert queued.arguments(1, plain)["n"] == 1


def test_arguments_that_a_thread_is_about_to_decode_are_left_out_of_the_lots_of_others() -> None:
    queued = block_of(numbered(3 * LOT))
    queued.arguments(LOT + 1, plain)  # so that those at 3 are decoded alone
    found: list[int] = []
    Interrupted(queued, 2, lambda: found.append(queued.arguments(0, plain)["n"]))
    assert queued.arguments(3, plain)["n"] == 3
    assert found == [0]


class Witness(ParentSocket):
    """Notes what the ledger says is running when an end is told."""

    def __init__(self, fd: int, ledger: Ledger) -> None:
        super().__init__(fd)
        self.ledger = ledger
        self.running: list[list[int]] = []

    def end_here(self, ending: Ending, *, more: bool) -> None:
        self.running.append([run.token for run in self.ledger.running()])
        super().end_here(ending, more=more)


def test_a_run_whose_end_is_told_is_not_running_any_more() -> None:
    here, there = socket.socketpair()
    trust = TrustCell(create_fd(TrustCell.SIZE_BYTES))
    trust.until_ns = boottime_ns() + 600 * 10**9
    ledger = Ledger(create_fd(Ledger.size_bytes(1)), 1)
    with here, there:
        witness = Witness(here.detach(), ledger)
        place = Workplace(witness, ledger, trust, {"plain": plain}, RunContexts(), "worker", slots=1)
        runner = SyncRunner(place)
        runner.accept(1, [block_of(numbered(3)).block])
        runner.finish()
        runner._surroundings = Surroundings()
        runner._work(0)
        witness.disown()
    assert witness.running == [[], [], []]
