"""Tokens, and what was done with the rights `admin` and `payload`."""

from types import MappingProxyType
from typing import Final

from hyrex.dashboard.pages.action import Action, Done, Form, Question
from hyrex.dashboard.pages.page import Page, Visit
from hyrex.dashboard.render.values import query
from hyrex.v1 import admin_service_pb2 as admin

LISTED: Final = 100
SCOPE: Final = "TOKEN_SCOPE_"


async def tokens(visit: Visit) -> Page:
    """Tokens by name. Raises: CallFailed."""
    ended = visit.query.get("ended") == "1"
    token = visit.query.get("page", "")
    request = admin.ListTokensRequest(page_size=LISTED, page_token=token, include_ended=ended)
    listed = await visit.calls.read("admin", "ListTokens", request)
    after = listed.next_page_token
    values = {
        "tokens": [(each, scopes_of(each)) for each in listed.tokens],
        "ended": ended,
        "next": "/tokens" + query(ended="1" if ended else "", page=after) if after else "",
    }
    return Page("tokens.html", "Tokens", "tokens", values)


async def audit(visit: Visit) -> Page:
    """What was done, newest first. Raises: CallFailed."""
    who, token = visit.query.get("who", ""), visit.query.get("page", "")
    request = admin.ListAuditRequest(page_size=LISTED, page_token=token, who=who)
    listed = await visit.calls.read("admin", "ListAudit", request)
    after = listed.next_page_token
    values = {
        "entries": listed.entries,
        "who": who,
        "next": "/audit" + query(who=who, page=after) if after else "",
    }
    return Page("audit.html", "Audit", "audit", values)


def scopes_of(token: admin.Token | admin.GetCallerResponse) -> list[str]:
    """The words of its scopes; a newer broker's are left out."""
    known = admin.TokenScope.values()
    return [
        admin.TokenScope.Name(scope).removeprefix(SCOPE).lower() for scope in token.scopes if scope in known
    ]


async def _ask_revoke(visit: Visit) -> Question:
    name = visit.wanted("name")
    sentence = "Its calls are refused, and its streams end, within 5 s at every broker. Workers with it stop."
    return Question(f"Revoke {name}?", sentence, "Revoke", "/tokens", danger=True, typed=name)


async def _revoke(visit: Visit, form: Form) -> Done:
    name = visit.wanted("name")
    if form.get("typed", "") != name:
        return Done("The name that was typed is not the token's; nothing was revoked.", "/tokens", bad=True)
    await visit.calls.act("admin", "RevokeToken", admin.RevokeTokenRequest(name=name))
    return Done(f"{name} is revoked.", "/tokens")


TOKEN_ACTIONS: Final = MappingProxyType({"/token/revoke": Action(_ask_revoke, _revoke)})
