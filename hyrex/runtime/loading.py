"""Imports modules at their first use, safely with signal handlers and forks at that moment.

An import holds a lock for each module. A signal handler that interrupts it would find the module half made,
and the child of a fork would find the lock held for ever by a thread that it does not have. So late imports
run in a thread of their own, which no signal handler interrupts, and a fork waits until they are done.
"""

# Imported here, because Python refuses that once the main thread has ended, and the client needs it then too.
import concurrent.futures.thread  # noqa: F401
import gc
import os
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from types import ModuleType

__all__ = ["before_forks", "first_use", "in_children", "load"]

_lock = threading.RLock()
_loaders: set[int] = set()


_in_children: list[Callable[[], None]] = []
_before_forks: list[Callable[[], None]] = []


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
    """Return the module; import it if this is its first use."""
    module = sys.modules.get(name)
    if module is not None and not getattr(module.__spec__, "_initializing", False):
        return module
    if threading.get_ident() in _loaders:
        return import_module(name)
    with _lock:
        return _load_apart(name)


def _load_apart(name: str) -> ModuleType:
    found: list[ModuleType | BaseException] = []
    thread = threading.Thread(target=_load_into, args=(name, found), name="hyrex-import", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter is ending and starts no threads (Python 3.12)
        return import_module(name)
    thread.join()
    module = found[0]
    if isinstance(module, BaseException):
        raise module
    return module


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
    for prepare in _before_forks:
        prepare()


def _in_parent() -> None:
    _lock.release()


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
