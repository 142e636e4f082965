"""Programs that send where others interrupt them; run as processes of their own by test_interruptions.py.

`Everywhere` is a signal handler, or a finalizer, at its worst: it sends before each line that a thread runs
in the SDK, once for each line, as a signal may arrive or the collector may run between any two of them.
"""

import atexit
import builtins
import faulthandler
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from hyrex.errors import RuntimeUnsupported
from tests.integration.sdk.forked_amid import forked_during_a_first_value, forked_during_the_first_send
from tests.integration.sdk.forking import HANG_S, add


class Everywhere:
    """A trace function that sends before each line of the SDK that it has not seen."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, int]] = set()
        self.sent: list[Any] = []
        self.errors: list[BaseException] = []
        self.busy = threading.local()

    def start(self) -> None:
        sys.settrace(self.trace)

    def trace(self, frame: FrameType, event: str, argument: object) -> Any:
        name = frame.f_globals.get("__name__", "")
        return self.line if name.startswith("hyrex.") and "hyrex.v1" not in name else None

    def line(self, frame: FrameType, event: str, argument: object) -> Any:
        place = (frame.f_code.co_filename, frame.f_lineno)
        if place not in self.seen and not getattr(self.busy, "now", False):
            self.seen.add(place)
            self.busy.now = True
            try:
                self.sent.append(add.send(len(self.sent)))
            except BaseException as error:
                self.errors.append(error)
            finally:
                self.busy.now = False
        return self.line


def interrupted(when: str) -> None:
    """Send, read, wait and cancel while a handler sends before each line."""
    if when == "later":
        add.send(0)
    everywhere = Everywhere()
    everywhere.start()
    handles = [add.send(n) for n in range(5)]
    handles[0].refresh()
    handles[0].wait(0.2)
    handles[0].cancel()
    sys.settrace(None)
    ids = [str(handle.id) for handle in [*handles, *everywhere.sent]]
    assert not everywhere.errors, everywhere.errors
    assert len(everywhere.sent) > 100, len(everywhere.sent)
    assert len(set(ids)) == len(ids)
    print(len(ids))


def by_signals() -> None:
    """Send while a timer's handler sends."""
    count = 0

    def handler(number: int, frame: object) -> None:
        nonlocal count
        add.send(count)
        count += 1
        signal.setitimer(signal.ITIMER_REAL, 0.0001 + 0.0001 * (count % 7))

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0001)
    sent = 0
    while count < 300:
        add.send(sent)
        sent += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(sent + count)


class Farewell:
    """Sends when it is collected, in whichever thread that happens."""

    done: list[Any] = []  # noqa: RUF012

    def __init__(self) -> None:
        self.itself: Farewell | None = self

    def __del__(self) -> None:
        self.done.append((threading.current_thread().name, add.send(1)))


def by_finalizers() -> None:
    """Leave garbage that sends when it is collected, and let the client's thread collect it too."""
    add.send(0)
    threads = set()
    made = 0
    while "hyrex-client" not in threads and made < 20_000:
        gc.disable()
        Farewell()
        made += 1
        gc.enable()
        gc.set_threshold(1 + made % 50, 2, 2)
        add.send(2)
        threads = {name for name, _ in Farewell.done}
    gc.set_threshold(700, 10, 10)
    gc.collect()
    assert len(Farewell.done) == made, (len(Farewell.done), made)
    print("both" if "hyrex-client" in threads else threads)


def at_exit(before: str) -> None:
    """Send in functions that run at exit, registered before and after the first send."""

    def say() -> None:
        print(add.send(1).status, flush=True)

    atexit.register(say)
    if before == "after a send":
        add.send(0)
    atexit.register(say)


class Signalled:
    """Sends this process a signal when a module is asked for, or is looked for. Finds nothing."""

    def __init__(self, module: str, when: str) -> None:
        self.module = module
        if when == "asked for":
            sys.addaudithook(self.audit)
        else:
            sys.meta_path.insert(0, self)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "import":
            self.find_spec(arguments[0])

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == self.module and threading.current_thread() is threading.main_thread():
            os.kill(os.getpid(), signal.SIGUSR1)
            self.module = ""


def by_a_handler_amid_an_import(outer: str, inner: str, when: str) -> None:
    """Send in a handler while its thread imports what a first send needs too; then send again."""

    def handler(number: int, frame: object) -> None:
        try:
            print(add.send(1).status)
        except RuntimeUnsupported:
            print("refused")

    signal.signal(signal.SIGUSR1, handler)
    Signalled(inner, when)
    __import__(outer)
    child = os.fork()
    if child == 0:
        os._exit(add.send(3).status != "queued")
    print(add.send(2).status, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


class LastWords:
    """Sends and reads when the interpreter takes itself apart."""

    def __init__(self, handle: Any) -> None:
        self.calls: list[Callable[[], Any]] = [lambda: add.send(1)]
        self.calls += [handle.refresh, handle.wait] if handle else [lambda: add.call(1)]

    def __del__(self, write: Any = os.write) -> None:
        for call in self.calls:
            try:
                call()
                said = "done"
            except RuntimeUnsupported:
                said = "refused"
            write(1, f"{said}\n".encode())


def at_the_interpreters_end(before: str) -> None:
    """Leave an object that sends when all modules are gone, with a client of before or without one."""
    handle = add.send(0) if before != "never sent" else None
    if before == "a client is left":
        from hyrex.client import close_client

        atexit.unregister(close_client)
    builtins.last_words = LastWords(handle)  # type: ignore[attr-defined]


def in_a_thread_after_main(before: str) -> None:
    """Send in a thread that outlives the main one."""
    if before == "after a send":
        add.send(0)

    def outlive() -> None:
        threading.main_thread().join()
        for n in range(3):
            handle = add.send(n)
            handle.refresh()
            print(handle.status, flush=True)

    threading.Thread(target=outlive).start()


def in_another_threads_finalizer() -> None:
    """A thread that dies leaves an object that sends."""

    def work() -> None:
        Farewell().itself = None

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(Farewell.done) == 1


def patched(what: str) -> None:
    """Send where gevent has replaced what the client needs, and where it has not."""
    import time

    from gevent import monkey

    if what == "all":
        monkey.patch_all()
    else:
        monkey.patch_all(thread=False, select=False)
    began = time.monotonic()
    try:
        print(add.send(2).status)
    except RuntimeUnsupported as error:
        says_what_to_do = "gevent.monkey.patch_all(thread=False, select=False)" in str(error)
        print("refused" if says_what_to_do and time.monotonic() - began < 5 else error)


COMMANDS: Final[dict[str, Callable[..., None]]] = {
    function.__name__: function
    for function in (
        by_a_handler_amid_an_import,
        by_signals,
        by_finalizers,
        forked_during_a_first_value,
        forked_during_the_first_send,
        at_exit,
        at_the_interpreters_end,
        in_a_thread_after_main,
        in_another_threads_finalizer,
        interrupted,
        patched,
    )
}

if __name__ == "__main__":
    faulthandler.enable()  # children too say where they hang, see exit_code()
    faulthandler.dump_traceback_later(HANG_S, exit=True)
    COMMANDS[sys.argv[1]](*sys.argv[2:])
