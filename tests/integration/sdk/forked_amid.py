"""Programs that fork while another thread is amid a send: commands of interrupting.py."""

import builtins
import os
import sys
import threading
import traceback
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from tests.integration.sdk.forking import HANG_S, add, exit_code


class Slow:
    """Finds nothing; says when a module is looked for, and holds its import up for a while."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.reached, self.go_on = threading.Event(), threading.Event()

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == self.module:
            self.reached.set()
            self.go_on.wait(1.0)


def forked_during_the_first_send(module: str) -> None:
    """Fork while another thread is in the midst of loading what a first send loads."""
    slow = Slow(module)
    sys.meta_path.insert(0, slow)
    sender = threading.Thread(target=add.send, args=(1,))
    sender.start()
    assert slow.reached.wait(HANG_S), f"{module} is not loaded by a first send"
    child = os.fork()
    if child == 0:
        try:
            add.send(2)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    slow.go_on.set()

    status = exit_code(child)
    sender.join()
    assert status == 0, status


class Imports:
    """Holds up one thread where it imports a module, as pydantic does when it first meets a kind of value.

    It holds a lock of its own then, and lets other threads run.
    """

    def __init__(self, module: str) -> None:
        self.module, self.real = module, builtins.__import__
        self.held: int | None = None
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, name: str, *arguments: Any) -> Any:
        if name == self.module and threading.get_ident() == self.held:
            self.reached.set()
            self.go_on.wait(1.0)
        return self.real(name, *arguments)


def forked_during_a_first_value(value: str) -> None:
    """Fork while another thread is in the midst of the first conversion of a kind of value."""
    from tests.integration.sdk.late_kinds import Colour, paint, price

    send_one: Callable[[], object] = lambda: paint.send(Colour(red=1))  # noqa: E731
    imports = Imports("pydantic_core")
    if value == "later":
        price.send(0)
        send_one, imports = lambda: price.send(Decimal("0.5")), Imports("decimal")
    builtins.__import__ = imports  # type: ignore[assignment]

    def send() -> None:
        imports.held = threading.get_ident()
        send_one()
        imports.reached.set()

    sender = threading.Thread(target=send)
    sender.start()
    assert imports.reached.wait(HANG_S)
    child = os.fork()
    if child == 0:
        try:
            send_one()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    imports.go_on.set()

    status = exit_code(child)
    sender.join()
    assert status == 0, status
