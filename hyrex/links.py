"""Signed links: whoever has one may end one task in one way, until a time, on a page of the dashboard.

A link says what it does and is signed with a key (HMAC-SHA256), so nobody can change it or make another one.
Who makes links has the key; the dashboard has it too, and a token with the scope `complete`.
"""

import base64
import binascii
import hashlib
import hmac
import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from hyrex.backend.ids import given_id

__all__ = ["LinkAnswer", "link", "opened", "read_keys"]

PATH: Final = "/answer"
KEY_CHARACTERS: Final = 32
LONGEST: Final = 4096
"""Of what is behind the `?`, in characters."""
LONGEST_RESULT: Final = 2000
LONGEST_TITLE: Final = 300
LONGEST_LABEL: Final = 60
LONGEST_TIME_S: Final = 366 * 86_400.0
_KEY_FILE: Final = "HYREX_LINK_KEY_FILE"
_FORM: Final = "1"


@dataclass(frozen=True, slots=True)
class LinkAnswer:
    """What a link does: ends a task with a result, as JSON, or with an error."""

    task_id: str
    result: str | None
    error: str | None
    label: str
    title: str
    until: int
    """In seconds since 1970."""


def link(
    task_id: UUID | str,
    result: Any = None,
    *,
    url: str,
    error: str | None = None,
    label: str = "",
    title: str = "",
    expires_in: float | timedelta = timedelta(days=7),
    key: str | None = None,
) -> str:
    """A link to the dashboard at `url`, on which a person ends a task with this result, or this error.

    `label`: what its button says ("Approve"); `title`: what is answered ("Refund 7: 120.00"). `key`: without
    it that of the file that HYREX_LINK_KEY_FILE names. Raises ValueError for what no link can have.
    """
    answer = LinkAnswer(
        str(given_id(task_id)),
        _json(result) if error is None else None,
        _text("error", error, LONGEST_RESULT) if error is not None else None,
        _text("label", label or ("Refuse" if error is not None else "Confirm"), LONGEST_LABEL),
        _text("title", title, LONGEST_TITLE),
        _until(expires_in),
    )
    if error is not None and result is not None:
        raise ValueError("a link has a result or an error, not both")
    signed = _signed(answer, checked_key(key) if key is not None else _own_keys()[0])
    if len(signed) > LONGEST:
        raise ValueError(f"the link would have {len(signed)} characters, more than {LONGEST}: say less in it")
    return f"{_base(url)}{PATH}?link={signed}"


def opened(text: str, keys: Sequence[str]) -> LinkAnswer | None:
    """What a link does; None for one that is wrong, changed, signed by none of the keys, or too old."""
    if len(text) > LONGEST or not text.isascii():
        return None
    said, _, signature = text.rpartition(".")
    if not any(hmac.compare_digest(_signature(said, key), signature) for key in keys):
        return None
    answer = _read(said)
    return answer if answer is not None and time.time() < answer.until else None


def read_keys(path: str | Path) -> tuple[str, ...]:
    """The keys of a file, one a line: the first one signs, all are known. Raises ValueError."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None
    lines = [line.strip() for line in text.splitlines()]
    found = tuple(checked_key(line) for line in lines if line and not line.startswith("#"))
    if not found:
        raise ValueError(f"{path}: has no key; write a line of random text into it")
    return found


def checked_key(key: str) -> str:
    """The key. Raises ValueError, which does not show it."""
    if len(key) < KEY_CHARACTERS:
        raise ValueError(f"a key of links needs at least {KEY_CHARACTERS} characters of random text")
    return key


def _own_keys() -> tuple[str, ...]:
    path = os.environ.get(_KEY_FILE)
    if not path:
        raise ValueError(
            f"no key signs the link: name its file in {_KEY_FILE}, or give key= (in a terminal --key-file)"
        )
    return read_keys(path)


def _signed(answer: LinkAnswer, key: str) -> str:
    parts = [answer.task_id, answer.result, answer.error, answer.label, answer.title, answer.until]
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":")).encode()
    said = f"{_FORM}.{base64.urlsafe_b64encode(text).decode().rstrip('=')}"
    return f"{said}.{_signature(said, key)}"


def _signature(said: str, key: str) -> str:
    secret = hashlib.sha256(b"hyrex link\0" + key.encode()).digest()
    digest = hmac.new(secret, said.encode(), "sha256").digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _read(said: str) -> LinkAnswer | None:
    form, _, text = said.partition(".")
    if form != _FORM:
        return None
    try:
        parts = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, binascii.Error):
        return None
    match parts:
        case [str(), str() | None, str() | None, str(), str(), int()]:
            return LinkAnswer(*parts)
    return None


def _json(result: Any) -> str:
    try:
        text = json.dumps(result, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise ValueError(f"the result of a link must be a JSON value: {error}") from None
    return _text("result", text, LONGEST_RESULT)


def _text(what: str, text: str, longest: int) -> str:
    if len(text) > longest or not all(each.isprintable() or each == "\n" for each in text):
        raise ValueError(
            f"the {what} of a link has at most {longest} printable characters, got {text[:80]!r}"
        )
    return text


def _until(expires_in: float | timedelta) -> int:
    seconds = expires_in.total_seconds() if isinstance(expires_in, timedelta) else expires_in
    if not 1 <= seconds <= LONGEST_TIME_S:  # false for nan, too
        raise ValueError(f"expires_in of a link must lie between a second and 366 days, got {expires_in!r}")
    return math.ceil(time.time() + seconds)


def _base(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"url must be the dashboard's own, like https://tasks.example.org, got {url!r}")
    return url.rstrip("/")
