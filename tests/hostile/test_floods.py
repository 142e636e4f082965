"""Calls in such numbers, or so slow to arrive, that each alone is nothing and all together hold others up."""

from contextlib import suppress
from typing import Final

from hyrex_broker.service.arriving import AT_ONCE
from hyrex_broker.service.hanging_up import MOST_TAKEN_BACK_A_SECOND
from tests.hostile.http2 import RawConnection
from tests.hostile.victim import BEARER, WITHIN_S, Victim, least_noticed
from tests.support.eventually import eventually

GET: Final = "/hyrex.v1.TaskService/GetTask"
WORK: Final = "/hyrex.v1.WorkerService/Work"
SUBMIT: Final = "/hyrex.v1.TaskService/SubmitTasks"
MIB: Final = 2**20


def test_calls_taken_back_at_once_end_their_connection(victim: Victim) -> None:
    """Without a token, of the bystander's own method: he waited for 2.5 s, and some of his calls failed."""

    def attack() -> None:
        for _ in range(5):
            with RawConnection(victim.address) as flood, suppress(OSError):
                for _ in range(60):
                    flood.open_and_reset(GET, (), 1000)
                raise AssertionError("60,000 calls without a token were taken")

    damage = least_noticed(victim, attack)
    damage.is_little(peak_mib=100)
    assert damage.said.count("closed a connection") <= 1


def test_a_connection_that_waits_for_its_refusals_stays(victim: Victim) -> None:
    with victim.watched() as damage, RawConnection(victim.address) as caller:
        for _ in range(3 * MOST_TAKEN_BACK_A_SECOND):
            stream = caller.call(GET, b"")
        eventually(lambda: stream in caller.ended, WITHIN_S)
        assert caller.answers[stream] == ["headers, the last"]
    damage.is_little(peak_mib=20)


def test_bodies_that_never_end_are_few(victim: Victim) -> None:
    """With the token: 60 of 15 MiB, but for their last byte, took 890 MiB."""
    with victim.watched() as damage, RawConnection(victim.address) as slow:
        streams = [slow.begin(SUBMIT, BEARER) for _ in range(60)]
        sent = slow.send_all_but_the_end(streams, 15 * MIB, quiet_s=2)
    assert MIB < sent < 15 * 15 * MIB
    damage.is_little(peak_mib=300)


def test_a_body_that_never_ends_makes_way(victim: Victim) -> None:
    """Its caller learns why, and whoever comes after it on the same connection is served."""
    with victim.watched() as damage, RawConnection(victim.address) as caller:
        slow = [caller.begin(SUBMIT, BEARER) for _ in range(AT_ONCE)]
        assert caller.send_all_but_the_end(slow, MIB, quiet_s=0.5) > MIB
        quick = caller.call(GET, b"", BEARER)
        eventually(lambda: quick in caller.ended, WITHIN_S)
        eventually(lambda: len(caller.ended.intersection(slow)) == 1, WITHIN_S)
    damage.is_little(peak_mib=100)


def test_streams_that_say_nothing_make_way(victim: Victim) -> None:
    """Each is refused once, by whoever reads it, and nothing of that is an incident of the broker's."""
    with victim.watched() as damage, RawConnection(victim.address) as caller:
        silent = [caller.begin(WORK, BEARER) for _ in range(2 * AT_ONCE)]
        eventually(lambda: caller.ended.issuperset(silent), WITHIN_S)
    damage.is_little(peak_mib=100)
    assert "failed unexpectedly" not in damage.said
