"""What the filter line and the palette suggest: names that the cluster knows, as the person sees it."""

from collections.abc import Iterable, Iterator
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hyrex.dashboard.cluster import Snapshot
from hyrex.dashboard.render.text import visible
from hyrex.dashboard.render.values import TASK_WORDS, query
from hyrex.dashboard.shared import Shared
from hyrex.transport.errors import CallFailed

MOST: Final = 12
LONGEST: Final = 300
AGES: Final = ("15m", "1h", "24h", "7d")
KEYS: Final = ("queue:", "name:", "status:", "older:", "newer:", "parent:", "root:")


class Completions:
    """Answers with JSON: a list of {text, kind} and, for the palette, {href}."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def complete(self, request: Request) -> Response:
        """Suggestions for the word that is being written."""
        session = self._shared.entry.session(request)
        if session is None:
            return JSONResponse([], 401)
        text = request.query_params.get("text", "")[:LONGEST].strip()
        try:
            seen = await self._shared.cluster.seen_by(session.token)
        except CallFailed:
            return JSONResponse([], 503)
        found = destinations(text, seen) if request.query_params.get("palette") else words(text, seen)
        return JSONResponse([each for each, _ in zip(found, range(MOST), strict=False)])


def words(text: str, seen: Snapshot) -> Iterator[dict[str, str]]:
    """Words that go on with the text: keys first, then values of its key."""
    key, colon, value = text.partition(":")
    if not colon:
        yield from ({"text": each, "kind": "filter"} for each in KEYS if each.startswith(text))
        return
    for each in _values(key, seen):
        if value.lower() in each.lower() and " " not in each and visible(each) == each:
            yield {"text": f"{key}:{each}", "kind": key}


def destinations(text: str, seen: Snapshot) -> Iterator[dict[str, str]]:
    """Queues, names of tasks and workers whose name contains the text."""
    wanted = text.lower()
    for queue in seen.queues:
        if wanted in queue.name.lower():
            yield {"text": visible(queue.name), "kind": "queue", "href": "/queue" + query(name=queue.name)}
    for name in task_names(seen):
        if wanted in name.lower():
            yield {"text": visible(name), "kind": "tasks", "href": "/tasks" + query(filter=f"name:{name}")}
    for worker in seen.workers:
        if wanted in worker.worker_name.lower():
            href = "/worker" + query(id=worker.session_id)
            yield {"text": visible(worker.worker_name), "kind": "worker", "href": href}


def task_names(seen: Snapshot) -> list[str]:
    """The functions that connected workers have, by name."""
    return sorted({name for worker in seen.workers for name in worker.task_names})


def _values(key: str, seen: Snapshot) -> Iterable[str]:
    match key:
        case "queue":
            return (queue.name for queue in seen.queues)
        case "name":
            return task_names(seen)
        case "status":
            return TASK_WORDS.values()
        case "older" | "newer":
            return AGES
        case _:
            return ()
