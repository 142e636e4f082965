"""The measure itself: what it would see, and that it sees it."""

import signal
import threading

import pytest

from tests.hostile.victim import Victim


def test_honest_use_does_no_damage(victim: Victim) -> None:
    with victim.watched() as damage:
        victim.submit(1000)
    assert damage.waits_s
    damage.is_little(peak_mib=20)


def test_a_pause_of_the_broker_is_noticed(victim: Victim) -> None:
    process = victim.broker.process
    with victim.watched() as damage:
        process.signal(signal.SIGSTOP)
        threading.Timer(1.5, process.signal, [signal.SIGCONT]).start()
        victim.submit(1)
    with pytest.raises(AssertionError, match="GetTask took"):
        damage.is_little(peak_mib=20)


def test_memory_taken_for_a_moment_is_noticed(victim: Victim) -> None:
    with victim.watched() as damage:
        victim.submit(10, payload=bytes(2**20))
    with pytest.raises(AssertionError, match="MiB more"):
        damage.is_little(peak_mib=5)
