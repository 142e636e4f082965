"""What users wrote is text on every page, and names of any form are links that lead back."""

import json
import re
from collections.abc import Sequence
from queue import SimpleQueue

import grpc
import pytest

from hyrex.dashboard.pages.screens import ACTIONS
from hyrex.dashboard.render.values import one_word, query
from hyrex.v1 import worker_service_pb2 as wire
from tests.dashboard.shop import Reader, Shop, queue_of, unique
from tests.protocol_abuse.abuser import hello, work
from tests.support.eventually import eventually

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>\u202egpj.exe\x1b[31m ../../etc?a=b&c#d'


def test_what_users_wrote_is_text_wherever_it_is_shown(shop: Shop, reader: Reader) -> None:
    """Names, queues, labels, headers, payloads and errors, on every page that shows them."""
    payload = json.dumps({"text": HOSTILE}).encode()
    marked = {"labels": {HOSTILE: HOSTILE}, "headers": {HOSTILE: HOSTILE}, "idempotency_key": HOSTILE}
    task_id = shop.send(HOSTILE, payload, queue=HOSTILE, **marked)
    failed = shop.send("fail_with", payload, queue="reports")
    shop.ended(failed)
    tabs = ("runs", "log", "payload", "result", "tree", "details")
    pages = [reader.text("/task", id=each, tab=tab) for each in (task_id, failed) for tab in tabs]
    pages += [reader.text(address) for address in ("/", "/queues", "/tasks", "/failures")]
    pages += [reader.text("/queue", name=HOSTILE), reader.text("/tasks", filter=one_word("queue", HOSTILE))]
    pages += [reader.text(path + query(name=HOSTILE)) for path in ACTIONS if path.startswith("/queue/")]
    pages += [reader.text(f"/task/replay?id={task_id}"), reader.text(f"/tasks/cancel?id={task_id}")]
    check_only_text(pages)


def check_only_text(pages: Sequence[str]) -> None:
    """Nothing on these pages is an element, a handler or a hidden character of a user's."""
    for page in pages:
        assert not re.search(r"<script(?! type=\"module\" src=\"/static/)", page), page
        assert "<img" not in page
        assert not re.search(r"<[^>]*\son\w+\s*=", re.sub(r'"[^"]*"', '""', page)), "an inline handler"
    exact = re.compile(r'<(?:input|textarea|form)[^>]*>|<a [^>]*href="[^"]*"[^>]*>|</?textarea>')
    for page in pages:
        shown = exact.sub("", re.sub(r"<textarea.*?</textarea>", "", page, flags=re.DOTALL))
        assert "\u202e" not in shown
        assert "\x1b" not in shown


def test_what_a_worker_says_of_itself_is_text_wherever_it_is_shown(shop: Shop, reader: Reader) -> None:
    """Its name, host, SDK, queues, tasks and pools, while it holds a task."""
    queue = unique("hostile") + HOSTILE
    task_id = shop.send(HOSTILE, queue=queue)
    said = hello(
        worker_name=HOSTILE,
        host=HOSTILE,
        sdk=HOSTILE,
        queue_patterns=[queue],
        tasks=[wire.TaskDefinition(name=HOSTILE, queue=queue, pool="all")],
    )
    frames: SimpleQueue[bytes | None] = SimpleQueue()
    frames.put(said.SerializeToString())
    with grpc.insecure_channel(shop.url.removeprefix("grpc://")) as channel:
        call = work(channel)(iter(frames.get, None), timeout=120)
        try:
            next(frame for frame in call if frame.WhichOneof("frame") == "assignments")
            eventually(lambda: "alert(1)" in reader.text("/workers"), 60)
            links = re.findall(r'href="(/worker\?id=[^"]+)"', reader.text("/workers"))
            pages = [reader.text(link) for link in links]
            assert any("alert(1)" in page for page in pages)
            pages += [reader.text(link.replace("/worker?", "/worker/drain?")) for link in links]
            pages += [reader.text(address) for address in ("/", "/workers", "/queues", "/brokers")]
            pages += [reader.text("/task", id=task_id, tab=tab) for tab in ("runs", "details")]
            pages.append(reader.text("/queue", name=queue))
            check_only_text(pages)
        finally:
            frames.put(None)
            call.cancel()


@pytest.mark.parametrize(
    "name", [HOSTILE, "a\r\nb", "..", "a/../../b", "%2e%2e%2f", " ", "ﬁn", "\u200b", "'"]
)
def test_a_queue_of_any_name_is_found_and_changed_under_that_name(
    shop: Shop, reader: Reader, name: str
) -> None:
    shop.send("greet", queue=name)
    link = re.escape("/queue" + query(name=name))
    eventually(lambda: re.search(f'href="{link}"', reader.text("/queues")), 60)
    done = reader.post(
        "/queue/pause" + query(name=name), {"csrf": reader.csrf("/queue/pause" + query(name=name))}
    )
    assert done.status_code == 303
    assert queue_of(shop, name).paused
