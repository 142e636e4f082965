"""The words of a filter, as commands take them."""

from typing import Annotated

import typer

from hyrex.cli.errors import CommandError
from hyrex.filterline import FilterLine, FilterLineError, parse

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[FILTER]...",
        help="Words such as queue:mail name:send* status:failed label.tenant:7 error:Timeout older:1h",
    ),
]


def filter_of(words: list[str] | None) -> FilterLine:
    """The filter that a command's words say. Raises CommandError."""
    try:
        return parse(" ".join(words or ()))
    except FilterLineError as error:
        raise CommandError(str(error), status=2) from None
