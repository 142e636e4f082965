"""The client of this process: made at the first use, with the settings of that moment.

gRPC cannot be forked, so thread and channel are ended before a fork. Afterwards the parent goes on with new
ones, and the child begins without any.
"""

import atexit
import os
import threading
from typing import TYPE_CHECKING, Final

from hyrex.backend.protocol import Backend
from hyrex.client.green import refuse_green_threads
from hyrex.config import cells_text, fingerprint, read_settings
from hyrex.errors import RuntimeUnsupported, loaded
from hyrex.runtime.app_import import SENT_AT_IMPORT, is_importing_app
from hyrex.runtime.loading import before_forks, first_use, in_children
from hyrex.transport.grpc_threads import GrpcThreads

if TYPE_CHECKING:
    from hyrex.client.cells import CellsBackend
    from hyrex.client.remote import RemoteBackend

__all__ = ["close_client", "current_backend", "replace_backend"]

UNUSABLE: Final = (
    "this process was forked while its parent's client could not be stopped (a finalizer kept its thread for "
    "30 s), and gRPC does not survive that: send from the parent, or start this process by exec or spawn"
)
# Reentrant: a signal handler may send, or fork, while its thread makes the client.
_lock = threading.RLock()
_remote: "RemoteBackend | CellsBackend | None" = None
_retired: "list[RemoteBackend | CellsBackend]" = []  # replaced, with callers that wait for their answers
_paused: "list[RemoteBackend | CellsBackend]" = []  # while a fork is made
_replacement: Backend | None = None
_fingerprint: tuple[object, ...] = ()
_hooked = False
_forking = False  # between the hooks before and after a fork
_grpc_threads = GrpcThreads()
_at_rest = True  # whether gRPC is, for the fork that is being made
_is_usable = True  # whether it was when this process was forked


def current_backend() -> Backend:
    """The backend of this process; made now if there is none."""
    if _replacement is not None:
        return _replacement
    remote = _remote
    if remote is not None and _fingerprint == fingerprint():
        return remote
    return _make()


def replace_backend(backend: Backend | None) -> Backend | None:
    """Use another backend instead of the broker; return the one before. None: the broker again."""
    global _replacement
    before, _replacement = _replacement, backend
    return before


def close_client() -> None:
    """Close the connection. The next send makes a new one, with the settings of that moment."""
    global _remote
    with _lock:
        closing = _all()
        _remote = None
        _retired.clear()
    for remote in closing:
        remote.close()


def _make() -> Backend:
    global _remote, _fingerprint
    refuse_green_threads()
    if is_importing_app():
        raise RuntimeUnsupported(SENT_AT_IMPORT)
    if not _is_usable:
        raise RuntimeUnsupported(UNUSABLE)
    with_cells = bool(cells_text())
    module = loaded("hyrex.client.cells" if with_cells else "hyrex.client.remote")
    kind = module.CellsBackend if with_cells else module.RemoteBackend
    with _lock:
        read, settings = fingerprint(), read_settings()
        if (settings.cells is not None) is not with_cells:
            return _make()  # changed meanwhile
        before = _remote
        if before is None or before.settings != settings:
            fresh: RemoteBackend | CellsBackend = kind(settings)
            if _remote is not before:
                return _make()  # a signal handler has made one meanwhile
            _remote = fresh
            _retired.extend([before] if before is not None else [])
            _hook()
            _retired[:] = [old for old in _retired if not old.retire()]
        else:
            fresh = before
        _fingerprint = read
        return fresh


def _hook() -> None:
    """Ask to be told of forks: after gRPC, so that its channels are gone when it is; and never amid one."""
    global _hooked
    with first_use():
        if not _hooked:
            _hooked = True
            _grpc_threads.look()
            atexit.register(close_client)
            os.register_at_fork(before=_before_fork, after_in_parent=_in_parent)


def _before_fork() -> None:
    """Called twice for most forks: by Python before gRPC's hooks, and after all hooks (see `loading`)."""
    global _at_rest, _forking
    if _forking or not _hooked:
        return
    _lock.acquire()
    _forking = True
    _paused[:] = _all()
    at_rest = [remote.pause() for remote in _paused]  # all of them, whatever the first says
    _at_rest = all(at_rest)
    _grpc_threads.wait_for_end()


def _in_parent() -> None:
    """Go on after a fork. Not if it began before the hook was registered, since nothing was ended for it."""
    global _forking
    if not _forking:
        return
    _forking = False
    for remote in _paused:
        remote.resume()
    _paused.clear()
    _lock.release()


def _in_child() -> None:
    global _forking, _is_usable, _lock, _remote
    _is_usable = _is_usable and _at_rest
    _forking = False
    for remote in _paused:
        remote.forget()
    _paused.clear()
    _grpc_threads.begin_anew()
    _lock = threading.RLock()
    _remote = None
    _retired.clear()


def _all() -> "list[RemoteBackend | CellsBackend]":
    return [remote for remote in (_remote, *_retired) if remote is not None]


in_children(_in_child)
before_forks(_before_fork)
