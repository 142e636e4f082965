"""`hyrex token` and `hyrex audit`: who may do what, and what was done."""

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from hyrex.cli.connection import DEFAULT_URL, AsJson, BrokerUrl, ask_admin
from hyrex.cli.errors import CommandError
from hyrex.cli.output import print_json, print_list, print_table, say
from hyrex.cli.paging import ask_every

if TYPE_CHECKING:
    import grpc.aio

SCOPES: Final = ("submit", "work", "read", "payload", "complete", "admin")
_LASTS: Final = re.compile(r"(\d{1,5})([mhd])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}
tokens = typer.Typer(help="Tokens: who may do what.", no_args_is_help=True)
audit = typer.Typer(help="What was done with the rights of admins.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The token's name.")]


@tokens.callback()
def group() -> None:
    """Tokens: who may do what."""


@audit.callback()
def audit_group() -> None:
    """What was done with the rights of admins."""


@tokens.command("create")
def create(
    name: Name,
    scope: Annotated[list[str], typer.Option("--scope", help=f"{', '.join(SCOPES)}; repeat it.")],
    queue: Annotated[
        list[str] | None, typer.Option("--queue", help="For queues that match; repeat it. Default: all.")
    ] = None,
    expires_in: Annotated[
        str | None, typer.Option(help="30m, 12h or 90d from now. Default: until it is revoked.")
    ] = None,
    broker_url: BrokerUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Make a token, and print it: it is shown only this once."""
    from hyrex.cli.wire import token_values
    from hyrex.v1 import admin_service_pb2 as wire

    request = wire.CreateTokenRequest(
        name=name,
        scopes=[wire.TokenScope.Value(f"TOKEN_SCOPE_{each.upper()}") for each in _scopes(scope)],
        queue_patterns=queue or ["*"],
    )
    if expires_in is not None:
        request.expires_at.FromDatetime(datetime.now(UTC) + _duration(expires_in))

    answer = ask_admin(broker_url, "CreateToken", request)
    if not answer.enforced:
        typer.echo("this broker was started without a token, so it serves everybody", err=True)
    if as_json:
        print_json({"secret": answer.secret} | token_values(answer.token))
    else:
        typer.echo("keep it: it is stored nowhere and shown only this once", err=True)
        say(answer.secret)


@tokens.command("list")
def list_tokens(
    ended: Annotated[
        bool, typer.Option("--ended", help="Those too that have expired or were revoked.")
    ] = False,
    broker_url: BrokerUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """List tokens, by name, without their secrets."""
    from hyrex.cli.wire import token_values
    from hyrex.v1 import admin_service_pb2 as wire
    from hyrex.v1 import admin_service_pb2_grpc

    def rpc(channel: "grpc.aio.Channel") -> Any:
        return admin_service_pb2_grpc.AdminServiceStub(channel).ListTokens

    request = wire.ListTokensRequest(include_ended=ended)
    found = [token_values(token) for token in ask_every(broker_url, rpc, request, "tokens")]
    if as_json:
        print_list("tokens", found)
        return
    columns = ("name", "scopes", "queues", "ends in", "created", "expires", "revoked")
    print_table(columns, [*map(_row, found)], "no tokens yet; `hyrex token create` makes one")


@tokens.command("revoke")
def revoke(name: Name, broker_url: BrokerUrl = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Revoke a token: within five seconds its calls are refused and its streams end."""
    from hyrex.cli.wire import token_values
    from hyrex.v1 import admin_service_pb2 as wire

    answer = ask_admin(broker_url, "RevokeToken", wire.RevokeTokenRequest(name=name))
    token = token_values(answer.token)
    if as_json:
        print_json(token)
    else:
        say(f"revoked token {name}")


@audit.command("list")
def list_audit(
    who: Annotated[str, typer.Option(help="Only what this token did.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many entries.")] = 50,
    page: Annotated[str, typer.Option(metavar="TOKEN", help="The page after one printed before.")] = "",
    broker_url: BrokerUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """List what was done with the rights of admins, and who saw payloads; newest first."""
    from hyrex.cli.wire import audit_values
    from hyrex.v1 import admin_service_pb2 as wire

    request = wire.ListAuditRequest(page_size=limit, page_token=page, who=who)
    answer = ask_admin(broker_url, "ListAudit", request)
    entries = [audit_values(entry) for entry in answer.entries]
    if as_json:
        print_list("entries", entries, answer.next_page_token)
        return
    rows = [
        (
            entry["at"],
            entry["who"],
            entry["action"],
            entry["object"],
            " ".join(f"{key}={value}" for key, value in entry["details"].items()),
        )
        for entry in entries
    ]
    print_table(("at", "who", "action", "object", "details"), rows, "nothing yet")
    if answer.next_page_token:
        say(f"more: --page {answer.next_page_token}")


def _scopes(texts: list[str]) -> list[str]:
    """The scopes that options name, alone or with commas. Raises CommandError."""
    scopes = [part for text in texts for part in text.split(",")]
    if unknown := [each for each in scopes if each not in SCOPES]:
        raise CommandError(f"--scope {unknown[0]}: must be one of {', '.join(SCOPES)}", status=2)
    return scopes


def _row(token: dict[str, Any]) -> tuple[Any, ...]:
    return (
        token["name"],
        " ".join(token["scopes"]),
        " ".join(token["queues"]),
        f"...{token['ending']}",
        token["created"],
        token["expires"],
        token["revoked"],
    )


def _duration(text: str) -> timedelta:
    found = _LASTS.fullmatch(text)
    if found is None or not int(found[1]):
        raise CommandError(f"--expires-in {text}: must be like 30m, 12h or 90d", status=2)
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
