"""Reads the two secrets of a broker, from a flag, a file or the environment.

Secret stores mount files, and `ps` does not show their content. A secret that is given and empty has probably
been lost on its way here, so it is refused. An empty variable, however, counts as not set, since a shell has
no other way to say so; with `is_blank` the caller refuses that too, if the broker would be open without a
token.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class SecretUnusable(Exception):
    """A secret cannot be read, is empty, or is given twice; the text is one line without its value."""


def read_secret(field: str, given: dict[str, Any], environment: Mapping[str, str]) -> str | None:
    """The secret `field` (`token`, `database_url`), flags before environment; None if it is not given.

    Takes `field` and `field_file` out of `given`. Raises: SecretUnusable.
    """
    flag = "--" + field.replace("_", "-")
    variable = "HYREX_" + field.upper()
    by_flag = {flag: given.pop(field, None), f"{flag}-file": given.pop(f"{field}_file", None)}
    by_variable = {name: environment.get(name) or None for name in (variable, f"{variable}_FILE")}
    for places in (by_flag, by_variable):
        named = {name: value for name, value in places.items() if value is not None}
        if len(named) > 1:
            raise SecretUnusable(f"{' and '.join(named)} are both given; keep one")
        for name, value in named.items():
            if not name.upper().endswith("FILE"):
                return _not_empty(name, value)
            text = _read(name, value)
            return _not_empty(
                f"the file of {name}, {value},",
                tokens_of_file(text) if field == "token" else text.strip("\r\n"),
            )
    return None


def token_file(given: Mapping[str, Any], environment: Mapping[str, str]) -> Path | None:
    """The file that `read_secret` reads tokens from, if it is one. Call it before."""
    flags = given.get("token"), given.get("token_file")
    path = flags[1] if any(flags) else environment.get("HYREX_TOKEN_FILE")
    return Path(path) if path else None


def tokens_of_file(text: str) -> str:
    """The tokens of a file, one a line, with commas between them. Lines that begin with # say something."""
    lines = (line.strip() for line in text.splitlines())
    return ",".join(line for line in lines if line and not line.startswith("#"))


def is_blank(environment: Mapping[str, str], variable: str) -> bool:
    """Return True if the variable is set but blank."""
    return not environment.get(variable, "-").strip()


def _read(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SecretUnusable(f"{name} {path}: cannot be read ({error})") from None


def _not_empty(name: str, value: str) -> str:
    if not value.strip():
        raise SecretUnusable(
            f"{name} is set but empty; is a secret missing? Give it a value, or leave it out to run without"
        )
    return value
