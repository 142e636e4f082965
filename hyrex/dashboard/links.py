"""The page of a signed link (hyrex/links.py): GET asks, since programs that look through mails follow links;
POST ends the task, with the dashboard's own token for that.

Whoever has the link needs no session, and learns nothing of the task but what the link itself says. A link
that is wrong, changed or too old gives one and the same page, whatever is the matter with it.
"""

from typing import Final

import grpc
from starlette.requests import Request
from starlette.responses import Response

from hyrex import links
from hyrex.dashboard.access.attempts import Attempts
from hyrex.dashboard.answers import Answers
from hyrex.dashboard.brokers import is_away
from hyrex.dashboard.forms import form_of
from hyrex.dashboard.pages.task_actions import REFUSED
from hyrex.dashboard.shared import Shared
from hyrex.links import LinkAnswer
from hyrex.transport.errors import CallFailed
from hyrex.v1 import task_service_pb2 as tasks

_UNUSABLE: Final = ("unusable", 404)
_LATER: Final = ("later", 503)
_PAGES: Final = {
    tasks.COMPLETE_OUTCOME_ENDED: ("done", 200),
    tasks.COMPLETE_OUTCOME_FINISHED: ("before", 409),
    tasks.COMPLETE_OUTCOME_NOT_WAITING: ("early", 409),
    tasks.COMPLETE_OUTCOME_NOT_FOUND: _UNUSABLE,
}


class Links:
    """The two halves of a link."""

    def __init__(self, shared: Shared, answers: Answers) -> None:
        self._shared = shared
        self._answers = answers
        self._attempts = Attempts()

    async def ask(self, request: Request) -> Response:
        """What the link does, and a button. No broker is asked."""
        text = request.query_params.get("link", "")
        answer = self._opened(request, text)
        return answer if isinstance(answer, Response) else self._page(request, "ask", 200, answer, text)

    async def do(self, request: Request) -> Response:
        """End the task."""
        text = (await form_of(request)).get("link", "")
        answer = self._opened(request, text)
        if isinstance(answer, Response):
            return answer
        calls = self._shared.brokers.as_seen_by(self._shared.options.link_token)
        try:
            # The first answer counts, so it may be asked twice.
            response = await calls.read("tasks", "CompleteTasks", _request(answer))
        except CallFailed as error:
            away = is_away(error.failure) or error.failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            name, status = _LATER if away else ("refused", 502)
            return self._page(request, name, status, answer, text)
        name, status = _PAGES.get(response.results[0].outcome, _UNUSABLE)
        return self._page(request, name, status, answer if name != "unusable" else None)

    def _opened(self, request: Request, text: str) -> LinkAnswer | Response:
        """What a link does. A good one is obeyed however many wrong ones came from its address: a whole
        office may share that, and nobody guesses a signature."""
        options = self._shared.options
        answer = None if options.read_only else links.opened(text, options.link_keys)
        if answer is not None:
            return answer
        client = self._shared.entry.browser_of(request)
        if not self._attempts.may_try(client):
            return self._page(request, "slower", 429)
        self._attempts.note_failure(client)
        return self._page(request, *_UNUSABLE)

    def _page(
        self, request: Request, state: str, status: int, answer: LinkAnswer | None = None, text: str = ""
    ) -> Response:
        values = {"state": state, "answer": answer, "link": text, "path": links.PATH}
        return self._answers.bare(request, "answer.html", values, status)


def _request(answer: LinkAnswer) -> tasks.CompleteTasksRequest:
    request = tasks.CompleteTasksRequest(task_ids=[answer.task_id], reason=f"by a link: {answer.label}")
    if answer.error is not None:
        request.error.type, request.error.message = REFUSED, answer.error
    else:
        request.result.result = (answer.result or "null").encode()
    return request
