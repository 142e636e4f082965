"""The RPCs of AdminService about tokens and the audit. A caller can give no more than it has, and sees only
the tokens that give no more."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from hyrex.runtime.patterns import MOST_STARS
from hyrex.v1 import admin_service_pb2 as wire
from hyrex_broker.domain import tokens
from hyrex_broker.domain.errors import InvalidField, PeerNotFound, RightMissing, TokenExists
from hyrex_broker.domain.rights import EVERY_QUEUE, Caller, Scope, is_reserved
from hyrex_broker.engine.audit import Audit
from hyrex_broker.service import fields, requests
from hyrex_broker.service.callers import current_caller
from hyrex_broker.service.pages import PageTokens, not_ours
from hyrex_broker.service.receiving import Context
from hyrex_broker.service.times import timestamp, timestamp_if_any
from hyrex_broker.storage.audit import NEWEST, AuditStore, AuditView
from hyrex_broker.storage.tokens import NewToken, TokenStore, TokenView

_DEFAULT_PAGE: Final = 100
MOST_PATTERNS: Final = 100
_SCOPES: Final = {
    wire.TOKEN_SCOPE_SUBMIT: Scope.SUBMIT,
    wire.TOKEN_SCOPE_WORK: Scope.WORK,
    wire.TOKEN_SCOPE_READ: Scope.READ,
    wire.TOKEN_SCOPE_PAYLOAD: Scope.PAYLOAD,
    wire.TOKEN_SCOPE_ADMIN: Scope.ADMIN,
    wire.TOKEN_SCOPE_COMPLETE: Scope.COMPLETE,
}
_NUMBERS: Final = {scope: number for number, scope in _SCOPES.items()}


@dataclass(frozen=True, slots=True)
class TokenParts:
    """What these RPCs use. `changed` is called after tokens have changed."""

    store: TokenStore
    entries: AuditStore
    audit: Audit
    pages: PageTokens
    enforced: bool
    changed: Callable[[], None]


class TokenRpcs:
    """A part of AdminServicer."""

    def __init__(self, parts: TokenParts) -> None:
        self._token_parts = parts

    async def CreateToken(
        self, request: wire.CreateTokenRequest, context: Context
    ) -> wire.CreateTokenResponse:
        caller, wanted = current_caller(), _wanted(request)
        if not caller.includes(wanted.scopes, wanted.queue_patterns):
            raise _too_much(caller, wanted)
        secret = tokens.make_token()
        wanted = replace(wanted, hash=tokens.digest(secret.encode()), ending=tokens.ending(secret))
        details = {"scopes": " ".join(wanted.scopes), "queues": " ".join(wanted.queue_patterns)}
        if wanted.expires_at is not None:
            details["expires"] = wanted.expires_at.isoformat()
        await self._token_parts.audit.record(caller.name, "token.create", wanted.name, details)
        made = await self._token_parts.store.create(wanted)
        if made is None:
            raise TokenExists(wanted.name)
        return wire.CreateTokenResponse(
            secret=secret, token=_token(made), enforced=self._token_parts.enforced
        )

    async def ListTokens(self, request: wire.ListTokensRequest, context: Context) -> wire.ListTokensResponse:
        size = requests.page_size(request.page_size, _DEFAULT_PAGE)
        filters = ["tokens", request.include_ended]
        after = _after(await self._token_parts.pages.cursor(request.page_token, filters))
        found: list[TokenView] = []
        caller, more = current_caller(), True
        while more and len(found) < size:
            page = await self._token_parts.store.page(after, size, ended=request.include_ended)
            found += [token for token in page if caller.includes(token.scopes, token.queue_patterns)]
            more = len(page) == size
            after = (page[-1].name, page[-1].number) if page else after
        # Another page follows if more were found than fit, or if not all were looked at.
        last = found[size - 1] if len(found) > size or (more and found) else None
        cursor = f"{last.number} {last.name}" if last else None
        next_page = await self._token_parts.pages.token(cursor, filters)
        return wire.ListTokensResponse(tokens=map(_token, found[:size]), next_page_token=next_page)

    async def RevokeToken(
        self, request: wire.RevokeTokenRequest, context: Context
    ) -> wire.RevokeTokenResponse:
        name, caller = _name(request.name), current_caller()
        found = await self._token_parts.store.find(name)
        if found is None or not caller.includes(found.scopes, found.queue_patterns):
            raise PeerNotFound("token", repr(name))
        await self._token_parts.audit.record(caller.name, "token.revoke", name, {"ending": found.ending})
        revoked = await self._token_parts.store.revoke(found.number)
        if revoked is None:
            raise PeerNotFound("token", repr(name))
        self._token_parts.changed()
        return wire.RevokeTokenResponse(token=_token(revoked))

    async def GetCaller(self, request: wire.GetCallerRequest, context: Context) -> wire.GetCallerResponse:
        caller = current_caller()
        return wire.GetCallerResponse(
            name=caller.name,
            scopes=sorted(_NUMBERS[scope] for scope in caller.scopes),
            queue_patterns=caller.queue_patterns,
            enforced=self._token_parts.enforced,
        )

    async def ListAudit(self, request: wire.ListAuditRequest, context: Context) -> wire.ListAuditResponse:
        current_caller().require(Scope.ADMIN, EVERY_QUEUE)
        size = requests.page_size(request.page_size, _DEFAULT_PAGE)
        who = fields.short_text(request.who, "who")
        filters = ["audit", who]
        cursor = await self._token_parts.pages.cursor(request.page_token, filters)
        before = NEWEST if cursor is None else requests.number_id(cursor, "page_token")
        entries = await self._token_parts.entries.page(before, who, size)
        last = str(entries[-1].number) if len(entries) == size else None
        return wire.ListAuditResponse(
            entries=map(_entry, entries), next_page_token=await self._token_parts.pages.token(last, filters)
        )


def _wanted(request: wire.CreateTokenRequest) -> NewToken:
    """A checked request, without a secret. Raises InvalidField."""
    scopes = sorted({_scope(number) for number in request.scopes})
    if not scopes:
        raise InvalidField("scopes", [], f"name one at least: {', '.join(Scope)}")
    patterns = list(dict.fromkeys(map(_pattern, request.queue_patterns)))
    if not 1 <= len(patterns) <= MOST_PATTERNS:
        raise InvalidField(
            "queue_patterns", len(patterns), f"name 1 to {MOST_PATTERNS}; * stands for every queue"
        )
    ends = fields.moment(request.expires_at, "expires_at") if request.HasField("expires_at") else None
    if ends is not None and ends <= datetime.now(UTC):
        raise InvalidField("expires_at", ends.isoformat(), "must lie in the future")
    name = _name(request.name)
    if is_reserved(name):
        raise InvalidField("name", name, "is what the audit calls others: choose another one")
    return NewToken(name, b"", "", scopes, patterns, ends)


def _scope(number: int) -> Scope:
    found = _SCOPES.get(wire.TokenScope.ValueType(number))
    if found is None:
        raise InvalidField("scopes", number, "must be a TokenScope other than UNSPECIFIED")
    return found


def _pattern(text: str) -> str:
    if text.count("*") > MOST_STARS:
        raise InvalidField("queue_patterns", text, f"may have at most {MOST_STARS} stars")
    return fields.name(text, "queue_patterns")


def _name(text: str) -> str:
    if not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidField("name", text, "must have visible ASCII characters only")
    return fields.name(text, "name")


def _too_much(caller: Caller, wanted: NewToken) -> RightMissing:
    """The first right that the caller would give and does not have."""
    for scope in wanted.scopes:
        if scope not in caller.scopes:
            return RightMissing(caller.name, scope)
    beyond = next(pattern for pattern in wanted.queue_patterns if not caller.covers(pattern))
    return RightMissing(caller.name, wanted.scopes[0], beyond)


def _after(cursor: str | None) -> tuple[str, int]:
    if cursor is None:
        return "", 0
    number, _, name = cursor.partition(" ")
    if not number.isdecimal() or len(number) > 18:
        raise not_ours()
    return name, int(number)


def _token(view: TokenView) -> wire.Token:
    return wire.Token(
        name=view.name,
        scopes=[_NUMBERS[scope] for scope in view.scopes],
        queue_patterns=view.queue_patterns,
        created_at=timestamp(view.created_at),
        expires_at=timestamp_if_any(view.expires_at),
        revoked_at=timestamp_if_any(view.revoked_at),
        ending=view.ending,
    )


def _entry(view: AuditView) -> wire.AuditEntry:
    deed = view.deed
    return wire.AuditEntry(
        at=timestamp(view.at), who=deed.who, action=deed.action, object=deed.object, details=deed.details
    )
