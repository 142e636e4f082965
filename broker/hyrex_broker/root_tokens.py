"""The file of the tokens that may do everything, read again when it changes, so that they can be rotated."""

import logging
from pathlib import Path

from hyrex_broker.changed_files import ChangedFiles
from hyrex_broker.config import split_tokens
from hyrex_broker.given_secrets import tokens_of_file

log = logging.getLogger(__name__)


class RootTokenFile:
    """A file with one token a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = ChangedFiles([path])

    def changed_tokens(self) -> list[str] | None:
        """The tokens if the file has changed, else None. A file that cannot be used changes nothing."""
        if not self._file.changed():
            return None
        try:
            return split_tokens(tokens_of_file(self._path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            log.error(
                "the file of tokens cannot be used; the tokens of before stay",
                extra={"path": str(self._path), "error": type(error).__name__},
            )
            return None
