"""The dashboard of `hyrex dev`: on its usual port, else on a free one; without it the rest works as well."""

import asyncio
import re
import socket
from contextlib import closing
from typing import Final

from hyrex.cli.dashboard import NOT_ITS_OWN, installed
from hyrex.cli.devserver.child import ChildEnded, Recipe
from hyrex.cli.devserver.console import say, warn
from hyrex.cli.devserver.keeper import READY_WITHIN_S, Keeper

DASHBOARD_READY: Final = re.compile(r"dashboard ready: (\S+)")


def dashboard_keeper(port: int, broker_address: str, relays: asyncio.TaskGroup) -> Keeper | None:
    """Keeps the dashboard; None where none is wanted (port 0) or its libraries are missing."""
    if port == 0 or not installed():
        return None
    nothing_secret = dict.fromkeys(NOT_ITS_OWN, "")

    def recipe() -> Recipe:
        listen = f"127.0.0.1:{port if is_free(port) else 0}"
        arguments = ["-m", "hyrex.dashboard", "--listen", listen, "--broker-url", f"grpc://{broker_address}"]
        return Recipe("dashboard", arguments, nothing_secret, DASHBOARD_READY)

    return Keeper(recipe, relays)


async def keep(dashboard: Keeper) -> None:
    """Start it, say where it is, and keep it running."""
    try:
        try:
            child = await dashboard.start()
        except ChildEnded:
            # Another `hyrex dev` that starts at this moment may have taken the port since it was free.
            child = await dashboard.start()
    except (ChildEnded, TimeoutError) as error:
        warn(str(error))
        return
    found = await child.until_ready(READY_WITHIN_S)
    say(f"dashboard {found[1]}")
    await dashboard.run()


def is_free(port: int) -> bool:
    """True if nothing listens on this port of loopback."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
