"""What the pages show and do, against a real broker and a real worker."""

import gzip
import html
import re
import uuid
from urllib.parse import unquote

import pytest
from google.protobuf.duration_pb2 import Duration

from hyrex.backend.ids import new_task_id
from hyrex.dashboard.app import make_app
from hyrex.dashboard.options import DashboardOptions
from hyrex.dashboard.pages.screens import ACTIONS, SCREENS
from hyrex.dashboard.render.values import query
from hyrex.v1 import task_pb2, task_service_pb2
from tests.dashboard.shop import Reader, Shop, attribute, unique
from tests.support.eventually import eventually

PAGE_BYTES = 100 * 1024


@pytest.mark.parametrize(
    "address",
    [
        "/",
        "/queues",
        "/tasks",
        "/workflows",
        "/failures",
        "/schedules",
        "/workers",
        "/brokers",
        "/operations",
    ],
)
def test_every_screen_is_shown_and_is_small(reader: Reader, address: str) -> None:
    page = reader.text(address)
    assert "<h1" in page
    assert 'aria-current="page"' in page
    assert len(gzip.compress(page.encode())) < PAGE_BYTES


def test_the_overview_says_what_needs_somebody_with_the_command_that_mends_it(
    shop: Shop, reader: Reader
) -> None:
    queue = unique("unserved")
    shop.send("greet", queue=queue)
    eventually(lambda: re.search(rf"<code>hyrex run-worker [^<]*{queue}", reader.text("/")), 60)
    assert f'href="/queue?name={queue}"' in reader.text("/")


def test_tasks_are_cancelled_and_retried_together(shop: Shop, reader: Reader) -> None:
    ids = [shop.send("greet") for _ in range(3)]
    chosen = "&".join(f"id={each}" for each in ids)
    assert "Cancel 3 tasks?" in reader.text(f"/tasks/cancel?{chosen}")
    assert reader.act(f"/tasks/cancel?{chosen}&list=name:greet") == "3 cancelled."
    assert {shop.task(each).status for each in ids} == {task_pb2.TASK_STATUS_CANCELLED}
    assert reader.act(f"/tasks/retry?{chosen}") == "3 queued again."
    assert {shop.task(each).status for each in ids} == {task_pb2.TASK_STATUS_QUEUED}


def test_a_failed_task_tells_why_and_is_sent_again_with_other_arguments(shop: Shop, reader: Reader) -> None:
    failed = shop.send("charge_card", b'{"order": 7, "cents": 100}', queue="billing")
    shop.ended(failed)
    page = reader.text("/task", id=failed)
    assert "order 7: the card was declined" in page
    assert "in settle" in page, "the traceback"
    assert "attempt 1 of 1" in page
    address = f"/task/replay?id={failed}"
    sent = reader.post(address, {"csrf": reader.csrf(address), "payload": '{"order": 8, "cents": 100}'})
    fresh = sent.headers["location"].partition("id=")[2]
    assert fresh != failed
    assert shop.ended(fresh).status == task_pb2.TASK_STATUS_COMPLETED
    assert "charged 100" in reader.text("/task", id=fresh, tab="result")


def test_a_queued_task_says_why_it_waits(shop: Shop, reader: Reader) -> None:
    waiting = shop.send("greet", queue=unique("nowhere"))
    assert "connected worker serves queue" in html.unescape(reader.text("/task", id=waiting))


def test_numbers_of_any_size_are_shown_as_they_were_sent(shop: Shop, reader: Reader) -> None:
    payload = b'{"id": 123456789012345678901234567890, "price": 1.10, "tiny": 1e-400, "id": 2}'
    page = reader.text("/task", id=shop.send("greet", payload), tab="payload")
    for literal in ("123456789012345678901234567890", "1.10", "1e-400"):
        assert f'<span class="json-number">{literal}</span>' in page


def test_a_tree_shows_who_sent_whom(shop: Shop, reader: Reader) -> None:
    root = shop.send("monthly_report", b'{"month": "2026-10"}', queue="reports")
    shop.ended(root)
    page = reader.text("/task", id=root, tab="tree")
    assert len(re.findall(r'<li class="d1" >', page)) == 3


def test_a_task_that_did_not_begin_in_time_tells_it(shop: Shop, reader: Reader) -> None:
    in_time = Duration(nanos=1_000_000)
    task_id = shop.send("nobody_has_it", expires_in=in_time)
    shop.ended(task_id)
    runs = reader.text("/task", id=task_id)
    assert "<b>expired</b>" in runs
    assert "it did not begin in time" in runs
    assert "<dt>Expires</dt>" in reader.text("/task", id=task_id, tab="details")


def test_a_blocked_task_tells_its_key_and_is_not_shown_as_ready(shop: Shop, reader: Reader) -> None:
    queue = unique("queue")
    first, second = (
        shop.send("nobody_has_it", queue=queue, concurrency_key="<ada>", max_per_key=1) for _ in range(2)
    )
    head = reader.text("/task", id=second)
    assert "is-blocked" in head
    assert first in head, "who holds the key"
    details = reader.text("/task", id=second, tab="details")
    assert '<dt>Concurrency key</dt><dd><span class="mono">&lt;ada&gt;</span>' in details
    page = reader.text("/queue", name=queue)
    assert "<span>Ready</span><b>1</b>" in page
    assert "<span>Blocked</span><b>1</b>" in page


def test_the_filter_line_narrows_the_list(shop: Shop, reader: Reader) -> None:
    name, queue = unique("one"), unique("queue")
    kept = shop.send(name, queue=queue)
    other = shop.send(unique("other"), queue=queue)
    for line in (f"name:{name}", f"queue:{queue} name:{name} status:queued", f"name:{name} newer:1h"):
        page = reader.text("/tasks", filter=line)
        assert f't-{kept}"' in page
        assert f't-{other}"' not in page


@pytest.mark.parametrize("line", ["mail", "colour:red", "status:done", "newer:soon", "status:"])
def test_a_filter_that_is_not_understood_says_what_to_write(reader: Reader, line: str) -> None:
    page = reader.text("/tasks", filter=line)
    assert 'role="alert"' in page
    assert "<tbody" not in page


def test_a_worker_says_what_it_serves_and_can_run(shop: Shop, reader: Reader) -> None:
    """The worker of the shop: sessions of other tests may not have ended yet."""
    shop.ended(shop.send("charge_card", b'{"order": 1, "cents": 1}', queue="billing"))
    link = attribute(reader.text("/queue", name="billing"), r'href="(/worker\?id=[^"]+)"')
    page = reader.text(link)
    assert "charge_card" in page
    assert link in reader.text("/workers")
    other = unique("other")
    shop.send("greet", queue=other)
    assert link not in reader.text("/queue", name=other)
    assert 'href="/worker/drain?id=' in page
    assert "Drain this worker?" in reader.text(link.replace("/worker?", "/worker/drain?"))


def test_a_run_says_how_far_it_is(shop: Shop, reader: Reader) -> None:
    """It runs until the test has seen it: a cancel ends it."""
    task_id = shop.send("count_to", b'{"total": 8, "seconds": 600}', queue="images")
    eventually(lambda: 'value="4.0" max="8.0"' in reader.text("/task", id=task_id), 60, every_s=0.5)
    assert "half of &lt;b&gt;them&lt;/b&gt;" in reader.text("/task", id=task_id)
    assert reader.act(f"/tasks/cancel?id={task_id}") == "1 told to stop."


def test_an_id_in_the_filter_leads_to_its_task(shop: Shop, reader: Reader) -> None:
    task_id = shop.send("greet")
    answer = reader.get("/tasks", filter=f" {task_id.upper()} ")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/task?id={task_id}")


def test_all_that_match_are_retried_once_by_the_brokers(shop: Shop, reader: Reader) -> None:
    name = unique("many")
    ids = [shop.send(name, queue=unique("bulk")) for _ in range(5)]
    address = "/tasks/all/cancel" + query(filter=f"name:{name}")
    asked = reader.text(address)
    assert "Cancel 5 tasks?" in asked
    form = {"csrf": reader.csrf(address), "once": attribute(asked, r'name="once" value="([^"]+)"')}
    first, again = (reader.post(address, form).headers["location"] for _ in range(2))
    assert first == again, "a form that is sent twice begins one operation"
    eventually(lambda: f"<b>{len(ids)}</b><small>tasks changed" in reader.text(first), 60)
    assert {shop.task(each).status for each in ids} == {task_pb2.TASK_STATUS_CANCELLED}
    assert f"name:{name}" in reader.text(first)
    listed = reader.text("/operations")
    assert first.partition("?id=")[2] in listed
    assert f"name:{name}" in listed


def test_an_operation_is_told_to_stop(reader: Reader) -> None:
    """Whether it is quicker or not, the audit has who told which."""
    address = "/tasks/all/cancel" + query(filter=f"name:{unique('many')}")
    once = attribute(reader.text(address), r'name="once" value="([^"]+)"')
    assert reader.act(address, once=once) == "It has begun."
    assert reader.act("/operation/stop" + query(id=once)) == "It stops."
    assert re.search(rf"bulk\.stop.*?{once}", reader.text("/audit"), re.DOTALL)


def test_charts_show_what_was_counted(shop: Shop, reader: Reader) -> None:
    shop.ended(shop.send("send_welcome", b'{"to": "a"}', queue="mail"))
    eventually(lambda: 'class="chart"' in reader.text("/queue", name="mail"), 60, every_s=1)
    eventually(
        lambda: re.search(r'id="q-mail".*?class="spark".*?id="q', reader.text("/queues"), re.DOTALL), 60
    )


def test_pages_of_tasks_stay_as_they_are_while_new_ones_come(shop: Shop, reader: Reader) -> None:
    name = unique("paged")
    ids = [shop.send(name) for _ in range(60)]
    first = reader.text("/tasks", filter=f"name:{name}")
    live = html.unescape(re.search(r'<live-page src="/live\?of=([^"]+)"', first)[1])  # type: ignore[index]
    shop.send(name)
    following = re.search(r'rel="next" href="([^"]+)"', first)
    assert following
    second = reader.text(html.unescape(following[1]))
    shown = re.findall(r'id="t-([0-9a-f-]+)"', first + second)
    assert sorted(shown) == sorted(ids), "each once, and none that came later"
    again = reader.text(unquote(live))
    assert re.findall(r'id="t-([0-9a-f-]+)"', again) == re.findall(r'id="t-([0-9a-f-]+)"', first)
    assert "1 newer" in again


@pytest.mark.parametrize(
    "address",
    [
        "/task",
        "/task?id=x",
        "/task?id=../../etc/passwd",
        "/task?id=00000000-0000-7000-8000-000000000000",
        "/queue?name=",
        "/queue?name=none-such",
        "/worker?id=00000000-0000-0000-0000-000000000000",
        "/nowhere",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
    ],
)
def test_what_is_not_there_is_not_found(reader: Reader, address: str) -> None:
    reader.text("/")
    assert reader.get(address).status_code == 404


def send_traced(shop: Shop, trace_context: bytes) -> str:
    terms = task_pb2.NewTask(name="greet", queue="nobody")
    task_id = new_task_id()
    group = task_service_pb2.TaskGroup(
        terms=terms, task_ids=uuid.UUID(task_id).bytes, payloads=[b"{}"], trace_contexts=trace_context
    )
    frame = task_service_pb2.StreamSubmitRequest(sequence=1, groups=[group])
    (answer,) = shop.tasks.StreamSubmit(iter([frame]), timeout=60)
    assert not answer.results
    return task_id


@pytest.mark.parametrize("flags", [0x01, 0x81])
def test_a_task_shows_the_trace_that_it_was_sent_in_and_leads_to_it(shop: Shop, flags: int) -> None:
    task_id = send_traced(shop, b"\0" + b"\xab" * 16 + b"\xcd" * 8 + bytes([flags]))
    options = DashboardOptions(shop.url, trace_url="https://jaeger.example.org/trace/TRACE_ID?x=1")
    with Reader(make_app(options)) as reader:
        page = reader.text("/task", id=task_id, tab="trace")
        without = reader.text("/task", id=shop.send("greet"), tab="trace")
    assert f'href="https://jaeger.example.org/trace/{"ab" * 16}?x=1"' in page
    assert "cd" * 8 in page
    assert ("traces of their own" in page) == bool(flags & 0x80)
    assert "outside of a trace" in without


def test_a_read_only_dashboard_shows_and_does_nothing(shop: Shop) -> None:
    task_id = shop.send("greet")
    with Reader(make_app(DashboardOptions(shop.url, read_only=True))) as reader:
        for address in SCREENS:
            if address not in ("/queue", "/task", "/workflow", "/worker", "/operation", "/schedule"):
                assert "data-ask" not in reader.text(address)
        assert "data-ask" not in reader.text("/task", id=task_id)
        for address in ACTIONS:
            assert reader.get(f"{address}?id={task_id}&name=x").status_code == 403
            assert reader.post(f"{address}?id={task_id}&name=x", {}).status_code == 403
    assert shop.task(task_id).status == task_pb2.TASK_STATUS_QUEUED


def test_below_a_prefix_every_address_has_it(shop: Shop) -> None:
    with Reader(make_app(DashboardOptions(shop.url, prefix="/ops/hyrex"))) as reader:
        page = reader.text("/ops/hyrex/")
        addresses = re.findall(r'(?:href|src|action)="(/[^"]*)"', page)
        assert addresses
        assert [each for each in addresses if not each.startswith("/ops/hyrex/")] == []
        assert reader.get("/ops/hyrex/queues").status_code == 200
        assert reader.get("/queues").status_code == 404
        assert reader.get(re.search(r'href="([^"]+\.css[^"]*)"', page)[1]).status_code == 200  # type: ignore[index]


def test_completions_name_what_the_cluster_knows(shop: Shop, reader: Reader) -> None:
    reader.text("/")
    assert reader.get("/complete", text="stat").json() == [{"text": "status:", "kind": "filter"}]
    assert {"text": "status:failed", "kind": "status"} in reader.get("/complete", text="status:fai").json()
    name = {"text": "name:charge_card", "kind": "name"}
    eventually(lambda: name in reader.get("/complete", text="name:char").json(), 60)
    found = reader.get("/complete", text="mail", palette="1").json()
    assert {"text": "mail", "kind": "queue", "href": "/queue?name=mail"} in found


def test_without_a_broker_the_page_says_so_and_where_it_looked() -> None:
    with Reader(make_app(DashboardOptions("grpc://127.0.0.1:1"))) as reader:
        page = reader.text("/", status=503)
        assert "No broker answers" in page
        assert "grpc://127.0.0.1:1" in page
