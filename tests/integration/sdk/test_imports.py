"""Importing the package costs nothing."""

import subprocess
import sys

QUIET = """
import os, signal, socket, sys, threading

def forbidden(*args, **kwargs):
    raise AssertionError("importing touched what it must not")

handlers = [signal.getsignal(s) for s in signal.valid_signals()]
socket.socket.connect = forbidden
os.environ.__class__.__getitem__ = forbidden
os.environ.__class__.get = forbidden
from hyrex import HyrexApp, HyrexQueue, HyrexRegistry, get_hyrex_context, send_many, TaskHandle, errors
import hyrex.testing, hyrex.testing.plugin

hy = HyrexRegistry(queue=HyrexQueue("q", concurrency_limit=2))

@hy.task(max_retries=3)
def task(a: int) -> int:
    return a

app = HyrexApp("app")
app.add_registry(hy)
assert [signal.getsignal(s) for s in signal.valid_signals()] == handlers
assert threading.active_count() == 1
loaded = [name for name in ("grpc", "google.protobuf", "asyncpg", "msgspec") if name in sys.modules]
assert not loaded, loaded
"""


def run(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_importing_and_defining_touch_neither_network_nor_signals_nor_environment() -> None:
    run(QUIET)


def test_bare_import_loads_nothing_but_itself() -> None:
    heavy = ("hyrex.", "pydantic", "grpc")
    run(f"import sys, hyrex; assert not [m for m in sys.modules if m.startswith({heavy})]")


def test_plugin_loads_nothing_of_hyrex() -> None:
    run(
        "import sys, hyrex.testing.plugin\n"
        "found = {m for m in sys.modules if m.startswith('hyrex')}\n"
        "assert found == {'hyrex', 'hyrex.testing', 'hyrex.testing.plugin'}, found\n"
        "assert not [m for m in sys.modules if m.startswith(('pydantic', 'grpc', 'asyncio'))]"
    )
