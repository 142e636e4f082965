"""`hyrex broker`: the brokers that share the database."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hyrex.cli.connection import DEFAULT_URL, AsJson, BrokerUrl, ask, ask_admin
from hyrex.cli.errors import CommandError
from hyrex.cli.output import print_json, print_list, print_table, say

if TYPE_CHECKING:
    import grpc.aio

commands = typer.Typer(help="The brokers that share the database.", no_args_is_help=True)


@commands.callback()
def group() -> None:
    """The brokers that share the database."""


@commands.command("list")
def list_brokers(broker_url: BrokerUrl = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List brokers seen in the last minute."""
    from hyrex.cli.wire import broker_values
    from hyrex.v1 import admin_service_pb2

    answer = ask_admin(broker_url, "ListBrokers", admin_service_pb2.ListBrokersRequest())
    brokers = [broker_values(found) for found in answer.brokers]
    if as_json:
        print_list("brokers", brokers)
        return
    columns = ("name", "address", "workers", "started", "version")
    rows = [tuple(broker[column] for column in columns) for broker in brokers]
    print_table(columns, rows, "no brokers")


@commands.command("health")
def health(
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the answer.")] = 5.0,
    broker_url: BrokerUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Exit with 0 if the broker at the one address of --broker-url serves, else with 1. Needs no token."""
    from hyrex.transport.health import METHOD, SERVING

    _require_one(broker_url, "ask")

    async def call(channel: "grpc.aio.Channel") -> Any:
        asked: Any = channel.unary_unary(METHOD)
        return await asked(b"")

    if ask(broker_url, call, timeout, with_token=False) != SERVING:
        raise CommandError(f"{broker_url} does not serve: it drains, or its database is away")
    if as_json:
        print_json({"broker_url": broker_url, "serves": True})
    else:
        say(f"{broker_url} serves")


@commands.command("drain")
def drain(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    broker_url: BrokerUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Ask the broker at the one address of --broker-url to hand its workers to others and stop."""
    from hyrex.v1 import admin_service_pb2

    _require_one(broker_url, "drain")
    if not yes:
        typer.confirm(f"stop the broker at {broker_url}? (--yes does not ask)", abort=True, err=True)

    ask_admin(broker_url, "DrainBroker", admin_service_pb2.DrainBrokerRequest())
    if as_json:
        print_json({"broker_url": broker_url, "asked_to_drain": True})
    else:
        say(f"the broker at {broker_url} was asked to drain")


def _require_one(broker_url: str, to: str) -> None:
    """Raises: CommandError for a list of addresses."""
    if "," in broker_url:
        raise CommandError(f"name the one broker to {to} with --broker-url; this is a list", status=2)
