"""What the filter line and the palette suggest: names that the cluster knows, as the person sees it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hyrex.dashboard.cluster import Snapshot
from hyrex.dashboard.pages.machines import EVERY_WORKER
from hyrex.dashboard.render.text import visible
from hyrex.dashboard.render.values import one_word, query
from hyrex.dashboard.shared import Shared
from hyrex.filterline import STATUSES, WORDS
from hyrex.transport.errors import CallFailed
from hyrex.transport.failures import TYPES_OF_FAILURES, error_type_of

MOST: Final = 12
LONGEST: Final = 300
AGES: Final = ("15m", "1h", "24h", "7d")
KEYS: Final = tuple(f"{word}:" for word in WORDS)


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
            listed = await self._shared.cluster.kept(session.token, "admin", "ListWorkers", EVERY_WORKER)
        except CallFailed:
            return JSONResponse([], 503)
        names = sorted({name for worker in listed.workers for name in worker.task_names})
        if request.query_params.get("palette"):
            found = destinations(text, seen, names)
        else:
            errors = await self._errors(session.token) if text.startswith("error:") else []
            found = words(text, Known(seen, names, errors))
        return JSONResponse([each for each, _ in zip(found, range(MOST), strict=False)])

    async def _errors(self, token: str | None) -> list[str]:
        """The types of error of the newest failures."""
        listed = await self._shared.cluster.soon(token, "tasks", "ListTasks", TYPES_OF_FAILURES)
        return sorted({error_type_of(task) for task in listed.tasks} - {""}) if listed is not None else []


@dataclass(frozen=True, slots=True)
class Known:
    """What values may be: the cluster, the names of tasks and the types of errors."""

    seen: Snapshot
    names: Iterable[str]
    errors: Iterable[str]


def words(text: str, known: Known) -> Iterator[dict[str, str]]:
    """Words that go on with the text: keys first, then values of its key."""
    key, colon, value = text.partition(":")
    if not colon:
        yield from ({"text": each, "kind": "filter"} for each in KEYS if each.startswith(text))
        return
    for each in _values(key, known):
        if value.lower() in each.lower() and visible(each) == each and (word := one_word(key, each)):
            yield {"text": word, "kind": key}


def destinations(text: str, seen: Snapshot, names: Iterable[str]) -> Iterator[dict[str, str]]:
    """Queues, names of tasks and workers whose name contains the text."""
    wanted = text.lower()
    for name in (each.queue.name for each in seen.queues):
        if wanted in name.lower():
            yield {"text": visible(name), "kind": "queue", "href": "/queue" + query(name=name)}
    for name in names:
        if wanted in name.lower() and (word := one_word("name", name)):
            yield {"text": visible(name), "kind": "tasks", "href": "/tasks" + query(filter=word)}
    for worker in (each.session for each in seen.workers):
        if wanted in worker.worker_name.lower():
            href = "/worker" + query(id=worker.session_id)
            yield {"text": visible(worker.worker_name), "kind": "worker", "href": href}


def _values(key: str, known: Known) -> Iterable[str]:
    match key:
        case "queue":
            return (each.queue.name for each in known.seen.queues)
        case "name":
            return known.names
        case "error":
            return known.errors
        case "status":
            return STATUSES
        case "dead" | "workflow":
            return ("yes",)
        case "older" | "newer":
            return AGES
        case _:
            return ()
