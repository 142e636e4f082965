"""Imports modules at their first use, safely with signal handlers and forks at that moment.

An import holds a lock for each module. A signal handler that interrupts it would find the module half made,
and the child of a fork would find the lock held for ever by a thread that it does not have. So late imports
run in a thread of their own, which no signal handler interrupts, and a fork waits until they are done.
"""

import _frozen_importlib

# Imported here, because Python refuses that once the main thread has ended, and the client needs it then too.
import concurrent.futures.thread  # noqa: F401
import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from types import FrameType, ModuleType
from typing import Any, Final

__all__ = ["ImportInterrupted", "before_forks", "first_use", "in_children", "load"]

LOOK_EVERY_S: Final = 0.02
LOCKED: Final = ("_find_spec", "_get_module_lock")
PAUSE_S: Final = 0.001
_lock = threading.RLock()
_loaders: set[int] = set()


_in_children: list[Callable[[], None]] = []
_before_forks: list[Callable[[], None]] = []


class ImportInterrupted(ImportError):
    """The module needs one that this very thread imports: a signal handler, say, interrupted that."""


def before_forks(prepare: Callable[[], None]) -> None:
    """Call `prepare` before every fork from now on, after all other hooks; also for a fork that waits here.

    Python takes its own list of hooks when a fork begins, and would not call one that is added while the fork
    waits here.
    """
    _before_forks.append(prepare)


def in_children(forget: Callable[[], None]) -> None:
    """Call `forget` in the child of every fork from now on."""
    _in_children.append(forget)


def first_use() -> AbstractContextManager[object]:
    """A context in which something is made at its first use: a fork waits until it is left."""
    return nullcontext() if threading.get_ident() in _loaders else _lock


def load(name: str) -> ModuleType:
    """Return the module; import it if this is its first use. Raises: ImportInterrupted."""
    module = sys.modules.get(name)
    if module is not None and not getattr(module.__spec__, "_initializing", False):
        return module
    if threading.get_ident() in _loaders:
        return import_module(name)
    with _lock:
        return _load_apart(name)


def _load_apart(name: str) -> ModuleType:
    if _holds_import_lock():
        raise ImportInterrupted(name)
    found: list[ModuleType | BaseException] = []
    thread = threading.Thread(target=_load_into, args=(name, found), name="hyrex-import", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter is ending and starts no threads (Python 3.12)
        return import_module(name)
    while thread.is_alive():
        thread.join(LOOK_EVERY_S)
        if _waits_for_this_thread(thread.ident):
            raise ImportInterrupted(name)
    module = found[0]
    if isinstance(module, BaseException):
        raise module
    return module


def _holds_import_lock() -> bool:
    """Return True if this thread is finding a module: Python lets no other thread import then."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name in LOCKED and frame.f_globals.get("__name__") == "importlib._bootstrap":
            return True
        frame = frame.f_back
    return False


def _waits_for_this_thread(other: int | None) -> bool:
    """Return True if the other thread, or one it waits for, needs a module that this thread imports."""
    blocked: dict[int | None, Any] = getattr(_frozen_importlib, "_blocking_on", {})
    asked = [other]
    for one in asked:
        locks = blocked.get(one)
        for lock in locks if isinstance(locks, list) else [locks]:  # a single one before Python 3.12
            owner = getattr(lock, "owner", None)
            if owner == threading.get_ident():
                return True
            if owner is not None and owner not in asked:
                asked.append(owner)
    return False


def _load_into(name: str, found: list[ModuleType | BaseException]) -> None:
    _loaders.add(threading.get_ident())
    collects = gc.isenabled()
    gc.disable()  # a finalizer that sends would wait for the module that this thread is importing
    try:
        found.append(import_module(name))
    except BaseException as error:
        found.append(error)
    finally:
        if collects:
            gc.enable()
        _loaders.discard(threading.get_ident())


def _in_child() -> None:
    global _lock
    _lock = threading.RLock()
    _loaders.clear()
    for forget in _in_children:
        forget()


def _before() -> None:
    _lock.acquire()
    while (others := _loaders - {threading.get_ident()}) and not any(map(_waits_for_this_thread, others)):
        time.sleep(PAUSE_S)  # an import goes on for which load() waited no longer
    for prepare in _before_forks:
        prepare()


def _in_parent() -> None:
    _lock.release()


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
