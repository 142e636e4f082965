"""The one client of this process: made at first use, by the settings of that moment.

A fork is survived on both sides: thread and channel go before it (gRPC cannot be forked), the
parent carries on afterwards, the child starts with nothing.
"""

import atexit
import os
import threading
from typing import TYPE_CHECKING

from hyrex.client.backend import Backend
from hyrex.config import fingerprint, read_settings

if TYPE_CHECKING:
    from hyrex.client.remote import RemoteBackend

__all__ = ["close_client", "current_backend", "replace_backend"]

_lock = threading.Lock()
_remote: "RemoteBackend | None" = None
_retired: "list[RemoteBackend]" = []  # replaced, with callers that still wait for their answers
_replacement: Backend | None = None
_fingerprint: tuple[object, ...] = ()
_hooked = False


def current_backend() -> Backend:
    """Where this process keeps its tasks now."""
    if _replacement is not None:
        return _replacement
    remote = _remote
    if remote is not None and _fingerprint == fingerprint():
        return remote
    return _make()


def replace_backend(backend: Backend | None) -> Backend | None:
    """Put another backend in place of the broker; returns what was there. None ends it."""
    global _replacement
    before, _replacement = _replacement, backend
    return before


def close_client() -> None:
    """Let the connection go; the next send makes a new one, by the settings of that moment."""
    global _remote
    with _lock:
        closing = _all()
        _remote = None
        _retired.clear()
    for remote in closing:
        remote.close()


def _make() -> Backend:
    global _remote, _fingerprint
    from hyrex.client.remote import RemoteBackend

    with _lock:
        read, settings = fingerprint(), read_settings()
        made = _remote
        if made is None or made.settings != settings:
            _retired.extend([made] if made is not None else [])
            made = _remote = RemoteBackend(settings)
            _hook()
            _retired[:] = [old for old in _retired if not old.retire()]
        _fingerprint = read
    return made


def _hook() -> None:
    global _hooked
    if not _hooked:
        _hooked = True
        atexit.register(close_client)
        os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)


def _before_fork() -> None:
    _lock.acquire()
    for remote in _all():
        remote.pause()


def _in_parent() -> None:
    for remote in _all():
        remote.resume()
    _lock.release()


def _in_child() -> None:
    global _lock, _remote
    _lock = threading.Lock()
    _remote = None
    _retired.clear()


def _all() -> "list[RemoteBackend]":
    return [remote for remote in (_remote, *_retired) if remote is not None]
