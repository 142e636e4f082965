"""Ids are UUIDv7, ordered within a process, never shared with a fork."""

import threading
import time
from uuid import UUID

from hyrex.backend.ids import IdSource, new_task_id


def milliseconds(task_id: str) -> int:
    return UUID(task_id).int >> 80


def test_id_is_a_version_7_uuid_of_this_moment() -> None:
    before = time.time_ns() // 1_000_000
    found = new_task_id()
    assert str(UUID(found)) == found
    assert (UUID(found).version, UUID(found).variant) == (7, "specified in RFC 4122")
    assert before <= milliseconds(found) <= time.time_ns() // 1_000_000 + 1


def test_ids_of_one_process_grow_in_the_order_they_are_made() -> None:
    source = IdSource()
    made = [source.new() for _ in range(50_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_threads_never_make_the_same_id() -> None:
    source, made = IdSource(), [[""] * 0 for _ in range(8)]
    threads = [
        threading.Thread(target=lambda mine: mine.extend(source.new() for _ in range(5_000)), args=(mine,))
        for mine in made
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({task_id for mine in made for task_id in mine}) == 40_000
    assert all(mine == sorted(mine) for mine in made)


def test_corrected_clock_moves_new_ids_either_way() -> None:
    source = IdSource()
    for shift_ms in (3_600_000, -3_600_000):
        server_ms = time.time_ns() // 1_000_000 + shift_ms
        source.correct_clock(server_ms)
        assert abs(milliseconds(source.new()) - server_ms) < 5_000
