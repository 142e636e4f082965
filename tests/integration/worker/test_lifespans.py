"""A lifespan that cannot be entered: exit status 3 with the reason, and no word of being ready."""

import pytest

from tests.integration.worker.conftest import Bench


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("fail", "ConnectionError: no database for the lifespan"),
        ("fail_async", "ConnectionError: no database for the lifespan"),
        ("leave", "SystemExit: the lifespan ends the process"),
        ("nothing", "lifespan must return a context manager, sync or async, not None"),
        ("no_argument", "takes 0 positional arguments but 1 was given"),
        ("never_yield", "generator didn't yield"),
        ("generator", "decorate it with @contextlib.contextmanager"),
        ("number", "lifespan must be callable"),
    ],
)
async def test_lifespan_that_cannot_be_entered_ends_the_worker(bench: Bench, app: str, said: str) -> None:
    worker = await bench.start(target=f"tests.integration.worker.odd_lifespans:{app}")
    assert await worker.exit_status() == 3
    await worker.printed(said)
    if app not in ("nothing", "no_argument", "never_yield", "generator"):  # no line of theirs has run
        assert any("odd_lifespans.py" in line for line in worker.output)
    assert not any("worker ready" in line for line in worker.output)
    assert bench.broker.hellos == []
