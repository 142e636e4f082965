"""`hyrex task link`: makes a signed link, on which a person ends a task that no worker runs."""

import json
from pathlib import Path
from typing import Annotated

import typer

from hyrex.cli.connection import AsJson
from hyrex.cli.errors import CommandError
from hyrex.cli.output import print_json, say
from hyrex.cli.task_complete import json_result


def link(
    task_id: Annotated[str, typer.Argument(metavar="ID", help="The task that waits.")],
    url: Annotated[str, typer.Option(metavar="URL", help="The dashboard's address, as browsers know it.")],
    result: Annotated[str | None, typer.Option(metavar="JSON", help="It completes with this result.")] = None,
    error: Annotated[str | None, typer.Option(metavar="TEXT", help="It fails with this error.")] = None,
    label: Annotated[str, typer.Option(help="What its button says (Confirm, or Refuse).")] = "",
    title: Annotated[str, typer.Option(help="What is answered, in a few words.")] = "",
    expires_in: Annotated[float, typer.Option(metavar="S", help="Seconds in which it works.")] = 7 * 86_400,
    key_file: Annotated[
        Path | None, typer.Option(help="A file with the key that signs it (HYREX_LINK_KEY_FILE).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a link to the dashboard on which a person ends a task in this one way. No broker is asked."""
    from hyrex import links

    if (result is None) == (error is None):
        raise CommandError("say how it ends: --result JSON, or --error TEXT", status=2)
    try:
        made = links.link(
            task_id,
            None if result is None else json.loads(json_result(result)),
            url=url,
            error=error,
            label=label,
            title=title,
            expires_in=expires_in,
            key=None if key_file is None else links.read_keys(key_file)[0],
        )
    except ValueError as wrong:
        raise CommandError(str(wrong), status=2) from None
    if as_json:
        print_json({"id": task_id, "link": made})
    else:
        say(made)
