"""What ends a command: one clear line and an exit status, never a traceback."""

from importlib.metadata import version


class CommandError(Exception):
    """The command cannot go on; the text is for the user. `status` is the exit status."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


def libraries_missing(extra: str) -> CommandError:
    """What to install where an extra is not there; without a version pip would take the older product."""
    return CommandError(
        f"the broker's libraries are not installed; run `pip install 'hyrex[{extra}]>={version('hyrex')}'`, "
        f"or `pip install '.[{extra}]'` in a clone of Hyrex"
    )
