"""What the pages of queues show and do."""

import pytest

from hyrex.dashboard.render.values import query
from tests.dashboard.shop import Reader, Shop, queue_of, unique


def test_a_queue_is_paused_limited_and_resumed(shop: Shop, reader: Reader) -> None:
    name = unique("mail & more/../x?y=1#")
    shop.send("greet", queue=name)
    assert reader.act("/queue/pause" + query(name=name)) == f"{name} is paused."
    assert queue_of(shop, name).paused
    assert reader.act("/queue/limit" + query(name=name), limit="7") == f"{name} runs at most 7 at once."
    assert queue_of(shop, name).concurrency_limit == 7
    done = reader.act("/queue/limit" + query(name=name), limit="7", rate="100/m")
    assert done == f"{name} runs at most 7 at once, and begins 100/m."
    assert "100/m begin" in reader.text("/queue" + query(name=name))
    assert 'value="100/m"' in reader.text("/queue/limit" + query(name=name))
    assert reader.act("/queue/limit" + query(name=name), limit="7", rate="").endswith("7 at once.")
    assert not queue_of(shop, name).HasField("rate")
    assert reader.act("/queue/resume" + query(name=name)) == f"{name} is served again."
    assert not queue_of(shop, name).paused


@pytest.mark.parametrize("limit", ["-1", "1e3", "٣", "9999999999", "x"])
def test_a_limit_that_is_no_number_changes_nothing(shop: Shop, reader: Reader, limit: str) -> None:
    name = unique("limited")
    shop.send("greet", queue=name)
    address = "/queue/limit" + query(name=name)
    refused = reader.post(address, {"csrf": reader.csrf(address), "limit": limit})
    assert refused.status_code == 400
    refused = reader.post(address, {"csrf": reader.csrf(address), "limit": "1", "rate": limit})
    assert refused.status_code == 400
    assert queue_of(shop, name).concurrency_limit == 0


def test_the_terms_of_a_queue_are_set_and_shown(shop: Shop, reader: Reader) -> None:
    name = unique("kept")
    shop.send("greet", queue=name)
    address = "/queue/retention" + query(name=name)
    assert reader.act(address, days="1", dead_letters="2") == f"The terms of {name} are set."
    assert "completed tasks for 1 d, dead letters for 2 d" in reader.text("/queue" + query(name=name))
    assert reader.act(address, days="", dead_letters="2") == f"The terms of {name} are set."
    assert (queue_of(shop, name).retention_days, queue_of(shop, name).dead_letter_days) == (0, 2)
    for wrong in ("-1", "x", "9999"):
        assert reader.post(address, {"csrf": reader.csrf(address), "days": wrong}).status_code == 400
    longer = reader.post(address, {"csrf": reader.csrf(address), "days": "8"})
    assert "--retention-days" in longer.text
    assert queue_of(shop, name).retention_days == 0


def test_a_purge_needs_the_name_of_the_queue(shop: Shop, reader: Reader) -> None:
    name = unique("purged")
    for _ in range(3):
        shop.send("greet", queue=name)
    address = "/queue/purge" + query(name=name)
    assert "3 tasks that wait in it are cancelled" in reader.text(address)
    wrong = reader.post(address, {"csrf": reader.csrf(address), "typed": name + "x"})
    assert wrong.status_code == 400
    assert queue_of(shop, name).queued == 3
    assert reader.act(address, typed=name) == f"3 tasks cancelled in {name}."
    assert queue_of(shop, name).queued == 0
