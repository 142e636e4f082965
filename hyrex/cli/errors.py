"""What ends a command: one clear line and an exit status, never a traceback."""


class CommandError(Exception):
    """The command cannot go on; the text is for the user. `status` is the exit status."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status
