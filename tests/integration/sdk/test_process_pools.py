"""What the SDK raises crosses the border of a process."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest

from hyrex import errors
from tests.unit.sdk.test_pickling import add, handle_of


def fail(a: int) -> None:
    """Raise, in a pool's process, what the SDK raises there."""
    raise errors.SubmitUnknown(f"no answer for {a}", handle_of())


def test_an_error_comes_out_of_a_process_pool_as_itself() -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        with pytest.raises(errors.SubmitUnknown, match="no answer for 3") as caught:
            pool.submit(fail, 3).result(60)
        assert caught.value.handle.status == "scheduled"
        assert pool.submit(str, add).result(60) == str(add)
