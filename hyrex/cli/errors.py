"""The error that ends a command with one line of text and an exit status, without a traceback."""

from importlib.metadata import version


class CommandError(Exception):
    """Ends the command; the text is for the user. `status` is the exit status."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


def libraries_missing(extra: str) -> CommandError:
    """The error for a missing extra. With a version, since without it pip would install an older product."""
    whose = "dashboard" if extra == "dashboard" else "broker"
    return CommandError(
        f"the {whose}'s libraries are not installed; run `pip install 'hyrex[{extra}]>={version('hyrex')}'`, "
        f"or `pip install '.[{extra}]'` in a clone of Hyrex"
    )
