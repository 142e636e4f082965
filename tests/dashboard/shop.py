"""The shop as tests use it: tasks sent over gRPC, pages read as a browser without scripts would."""

import html
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlencode

import grpc
from starlette.applications import Starlette
from starlette.testclient import TestClient

from hyrex.backend.ids import new_task_id
from hyrex.v1 import queue_service_pb2, task_pb2, task_service_pb2
from hyrex.v1.queue_service_pb2_grpc import QueueServiceStub
from hyrex.v1.task_service_pb2_grpc import TaskServiceStub
from tests.support.eventually import eventually
from tests.support.processes import Processes, RunningBroker

TOKEN: Final = "hyrex-test-token-of-the-dashboard"
"""Of the broker that wants one (`guarded`)."""
HERE: Final = "http://localhost:8787"
WITHIN_S: Final = 60.0
FINAL: Final = range(task_pb2.TASK_STATUS_COMPLETED, task_pb2.TASK_STATUS_LOST + 1)


@dataclass
class Shop:
    """A broker with a worker that serves mail, billing, images and reports."""

    url: str
    processes: Processes
    tasks: Any
    queues: Any
    metadata: tuple[tuple[str, str], ...] = ()
    database_url: str = ""

    @classmethod
    def opened(cls, processes: Processes, database_url: str, broker: RunningBroker | None = None) -> Self:
        """Start both, or the worker at a broker that runs."""
        broker = broker or processes.broker(database_url)
        queues = ("mail", "billing", "images", "reports")
        served = [part for queue in queues for part in ("-q", queue)]
        processes.worker(broker.url, "tests.dashboard.shop_app:app", "-p", "1", *served)
        shop = cls.at(processes, broker)
        shop.database_url = database_url
        return shop

    @classmethod
    def at(cls, processes: Processes, broker: RunningBroker) -> Self:
        """A shop at a broker, without a worker."""
        channel = grpc.insecure_channel(broker.address)
        stubs: Any = (TaskServiceStub(channel), QueueServiceStub(channel))
        return cls(broker.url, processes, *stubs)

    def send(self, name: str, payload: bytes = b"{}", queue: str = "nobody", **more: Any) -> str:
        """Store one task; its id."""
        task = task_pb2.NewTask(task_id=new_task_id(), name=name, queue=queue, payload=payload, **more)
        answer = self.tasks.SubmitTasks(task_service_pb2.SubmitTasksRequest(tasks=[task]), timeout=WITHIN_S)
        assert not answer.results[0].error.reason, answer
        return task.task_id

    def task(self, task_id: str) -> task_pb2.Task:
        """How a task stands."""
        found = self.tasks.GetTask(task_service_pb2.GetTaskRequest(task_id=task_id), timeout=WITHIN_S)
        task: task_pb2.Task = found.task
        return task

    def ended(self, task_id: str) -> task_pb2.Task:
        """Wait for its end."""
        eventually(lambda: self.task(task_id).status in FINAL, WITHIN_S)
        return self.task(task_id)


class Reader:
    """A browser without scripts: follows links, fills in forms, keeps cookies."""

    def __init__(self, app: Starlette, origin: str = HERE) -> None:
        self.client = TestClient(app, base_url=origin, follow_redirects=False)
        self.origin = origin

    def __enter__(self) -> Self:
        self.client.__enter__()
        return self

    def __exit__(self, *ended: Any) -> None:
        self.client.__exit__(*ended)

    def get(self, address: str, **query: str) -> Any:
        """Look at a page."""
        return self.client.get(address, params=query or None)

    def text(self, address: str, status: int = 200, **query: str) -> str:
        """The HTML of a page."""
        answer = self.get(address, **query)
        assert answer.status_code == status, answer.text
        found: str = answer.text
        return found

    def post(self, address: str, fields: Mapping[str, str], **headers: str) -> Any:
        """Send a form as a page of the dashboard would."""
        given = {"origin": self.origin, "content-type": "application/x-www-form-urlencoded"}
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(address, content=urlencode(fields), headers=given | sent)

    def csrf(self, address: str) -> str:
        """The token of the form on a page."""
        return attribute(self.text(address), r'name="csrf" value="([^"]+)"')

    def act(self, address: str, **fields: str) -> str:
        """Answer an action's question with yes; what the next page says was done."""
        done = self.post(address, {"csrf": self.csrf(address), **fields})
        assert done.status_code == 303, done.text
        shown = self.text(done.headers["location"])
        return html.unescape(attribute(shown, r'class="said [^>]*>.*?</svg>([^<]*)</p>'))


def sign_in(reader: Reader, token: str = TOKEN) -> int:
    """Send the form of the sign-in page; the status of the answer."""
    status: int = reader.post("/sign-in", {"token": token}).status_code
    return status


def attribute(page: str, pattern: str) -> str:
    """The first match's group, unescaped."""
    found = re.search(pattern, page, re.DOTALL)
    assert found, f"no {pattern} in {page}"
    return html.unescape(found[1])


def unique(name: str) -> str:
    """A name that no other test uses."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


def now_ms() -> int:
    """The time now, as ids have it."""
    return int(time.time() * 1000)


def queue_of(shop: Shop, name: str) -> queue_service_pb2.Queue:
    found = shop.queues.GetQueue(queue_service_pb2.GetQueueRequest(name=name), timeout=60)
    queue: queue_service_pb2.Queue = found.queue
    return queue


def at(function: str) -> str:
    """The filter's words for where a function of the shop raises its error."""
    lines = Path(__file__).with_name("shop_app.py").read_text().splitlines()
    begin = lines.index(next(line for line in lines if line.startswith(f"def {function}(")))
    number = next(each for each in range(begin, len(lines)) if "raise " in lines[each]) + 1
    return f'at:"tests.dashboard.shop_app:{number} in {function}"'
