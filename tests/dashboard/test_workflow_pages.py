"""The page of a workflow's run, against a real broker and a real worker."""

import gzip
import random
import re
from typing import Final

import grpc
import pytest

from hyrex.dashboard.graph.folding import MOST_BOXES
from hyrex.v1 import task_pb2
from tests.dashboard.flows import send_flow
from tests.dashboard.shop import TOKEN, Reader, Shop, sign_in, unique
from tests.dashboard.test_what_users_wrote import HOSTILE, check_only_text
from tests.support.eventually import eventually
from tests.support.processes import Processes, RunningBroker
from tests.support.tokens import bearer, made_by

PAGE_BYTES: Final = 100 * 1024
OFFICE: Final = {"name": "tell_office", "queue": "mail", "payload": b'{"day": 1}'}
RATES: Final = {"name": "convert_rates", "queue": "reports", "payload": b'{"day": 7}', "max_retries": 0}


def test_a_workflow_shows_how_each_node_stands_and_goes_on_from_what_failed(
    shop: Shop, reader: Reader
) -> None:
    graph = {"told": [], "rates": ["told"], "left out": ["rates"], "after all": ["rates!"]}
    ids = send_flow(shop, graph, {"told": OFFICE, "rates": RATES, "after all": OFFICE})
    shop.ended(ids[""])
    page = reader.text("/workflow", id=ids[""])
    assert "4 of 4 ended" in page
    assert "2 completed" in page
    for look in ("is-failed", "is-skipped", "is-completed"):
        assert re.search(rf'<a id="b-\d" class="box {look}"', page)
    assert page.count('class="line is-anyway') == 1
    assert page.count('class="stretch is-completed"') == 2
    assert "2 of 4 nodes did not complete: rates (failed), left out (skipped)" in page
    assert "Dashed lines" in page
    beside = reader.text("/workflow", id=ids[""], node=ids["rates"])
    assert "no rates of day 7" in beside
    assert "After" in beside
    asked = reader.text(f"/workflow/retry?id={ids['']}")
    assert "2 of its nodes did not complete" in asked
    assert reader.act(f"/workflow/retry?id={ids['']}") == "It goes on from what had not completed."
    assert len(shop.ended(ids["rates"]).runs) == 2
    assert len(shop.task(ids["told"]).runs) == 1


def test_a_workflow_that_waits_is_cancelled(shop: Shop, reader: Reader) -> None:
    ids = send_flow(shop, {"first": [], "second": ["first"]}, {})
    page = reader.text("/workflow", id=ids["second"])
    assert "0 of 2 ended" in page
    assert "Dashed lines" not in page, "there is none"
    assert "<h2>second</h2>" in page, "the id of a node leads to it"
    assert reader.act(f"/workflow/cancel?id={ids['']}", reason="not needed") == "It is being cancelled."
    shop.ended(ids[""])
    assert shop.task(ids["first"]).status == task_pb2.TASK_STATUS_CANCELLED
    assert "2 of 2 ended" in reader.text("/workflow", id=ids[""])


def test_tasks_of_a_workflow_lead_to_it(shop: Shop, reader: Reader) -> None:
    ids = send_flow(shop, {"only": []}, {})
    assert f'href="/workflow?id={ids[""]}"' in reader.text("/task", id=ids[""])
    link = f'href="/workflow?id={ids[""]}&amp;node={ids["only"]}#node"'
    assert link in reader.text("/task", id=ids["only"])


def test_a_workflow_of_a_thousand_nodes_has_a_small_page(shop: Shop, reader: Reader) -> None:
    draw = random.Random(11)
    names = [f"node-{at}" for at in range(1000)]
    graph = {name: draw.sample(names[:at], min(at, 20)) for at, name in enumerate(names)}
    ids = send_flow(shop, graph, {})
    page = reader.text("/workflow", id=ids[""])
    assert "of 1000 ended" in page
    assert 1 < page.count('<a id="b-') <= MOST_BOXES
    assert len(gzip.compress(page.encode())) < PAGE_BYTES
    assert reader.act(f"/workflow/cancel?id={ids['']}") == "It is being cancelled."


def test_names_of_nodes_are_text_however_long_they_are(shop: Shop, reader: Reader) -> None:
    name = HOSTILE.ljust(200, "ｗ")[:200].encode()[:255].decode(errors="ignore")
    ids = send_flow(shop, {name: [], "\u202eb": [name]}, {}, name=name, queue=HOSTILE)
    check_only_text([reader.text("/workflow", id=ids[""]), reader.text("/workflow", id=ids[name])])
    many = send_flow(shop, {f"{at} {HOSTILE}": [] for at in range(20)}, {})
    check_only_text([reader.text("/workflow", id=many[""], box="0")])


@pytest.mark.parametrize(
    "query",
    ["", "id=x", "id=00000000-0000-7000-8000-000000000000", "id=PLAIN", "id=ROOT&box=7", "id=ROOT&box=-1",
     "id=ROOT&box=²", "id=ROOT&node=PLAIN", "id=ROOT&node=x"],
)  # fmt: skip
def test_what_is_no_workflow_or_not_of_it_is_not_found(shop: Shop, reader: Reader, query: str) -> None:
    reader.text("/")
    asked = query.replace("PLAIN", shop.send("greet"))
    if "ROOT" in asked:
        asked = asked.replace("ROOT", send_flow(shop, {"only": []}, {})[""])
    statuses: list[int] = []

    def answered() -> bool:
        """Said to be there or not; a page for which no broker had answered in time is asked again."""
        statuses.append(reader.get(f"/workflow?{asked}").status_code)
        return statuses[-1] != 503

    eventually(answered, 60)
    assert statuses[-1] == 404


def test_a_token_sees_of_a_workflow_what_it_may(guarded: RunningBroker, stranger: Reader) -> None:
    """No payloads without `payload`, no buttons without `submit`, and of nodes of other queues only names."""
    queue = unique("eve")
    admin = Shop.at(Processes(), guarded)
    admin.metadata = bearer(TOKEN)
    with grpc.insecure_channel(guarded.address) as channel:
        secret = made_by(channel, TOKEN, queue, "read", queue)
    terms = {"queue": queue, "payload": b'{"pin": 4711}'}
    ids = send_flow(admin, {"mine": [], "other": ["mine"]}, {"mine": terms}, **terms)
    assert sign_in(stranger, secret) == 303
    page = stranger.text("/workflow", id=ids[""], node=ids["mine"])
    assert "no right to payloads" in page
    assert "4711" not in page
    assert "data-ask" not in page
    assert "1 not to be seen" in page
    assert ids["other"] not in page
    assert stranger.get(f"/workflow?id={ids['']}&node={ids['other']}").status_code == 404
    address = f"/workflow/cancel?id={ids['']}"
    assert stranger.post(address, {"csrf": stranger.csrf(address)}).status_code == 403


def test_graphs_of_which_little_is_to_be_seen_are_told_apart(
    guarded: RunningBroker, stranger: Reader
) -> None:
    """Neither their roots nor their first nodes are to be seen, and the others have the same names."""
    queue = unique("eve")
    admin = Shop.at(Processes(), guarded)
    admin.metadata = bearer(TOKEN)
    with grpc.insecure_channel(guarded.address) as channel:
        secret = made_by(channel, TOKEN, queue, "read", queue)
    assert sign_in(stranger, secret) == 303
    for upstreams in (["other"], []):
        ids = send_flow(admin, {"other": [], "mine": upstreams}, {"mine": {"queue": queue}})
        page = stranger.text("/workflow", id=ids["mine"])
        assert page.count('<path class="line') == len(upstreams)


def test_runs_of_workflows_are_listed_with_how_far_they_are(shop: Shop, reader: Reader) -> None:
    name = unique("listed")
    ids = send_flow(shop, {"told": [], "waits": ["told"]}, {"told": OFFICE}, name=name)
    plain = shop.send(name)
    shop.ended(ids["told"])
    eventually(lambda: "1 of 2" in row_of(reader.text("/workflows", kind="living"), ids[""]), 60)
    assert "is-queued" in row_of(reader.text("/workflows"), ids[""])
    assert plain not in reader.text("/workflows")
    listed = reader.text("/tasks", filter=f"name:{name} workflow:yes")
    assert re.findall(r'id="t-([0-9a-f-]+)"', listed) == [ids[""]]
    reader.act(f"/workflow/cancel?id={ids['']}")
    shop.ended(ids[""])
    assert "2 of 2" in row_of(reader.text("/workflows", kind="bad"), ids[""])
    assert ids[""] not in reader.text("/workflows", kind="living")
    assert ids[""] not in reader.text("/workflows", kind="completed")


def row_of(page: str, root_id: str) -> str:
    """The row of a workflow."""
    return page.partition(f'<tr id="w-{root_id}"')[2].partition("</tr>")[0]
