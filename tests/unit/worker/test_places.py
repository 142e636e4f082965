"""Where in a user's own code an error was raised, whatever libraries are around it and below it."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from hyrex.worker.shared.description import describe
from hyrex.worker.shared.places import MOST_BYTES

LIBRARY = "/venv/lib/python3.11/site-packages/lib/client.py"


def function(name: str, body: str, file: str, **known: Any) -> Callable[..., Any]:
    """A function of a module that lies somewhere."""
    names: dict[str, Any] = {"__name__": name} | known
    exec(compile(f"def call():\n    {body}", file, "exec"), names)
    made: Callable[..., Any] = names["call"]
    return made


def place_of(call: Callable[..., Any]) -> str:
    try:
        call()
    except Exception as error:
        trace = error.__traceback__
        # Without this function's own frame: a worker's first is that of the task's function.
        return describe(error.with_traceback(trace and trace.tb_next)).place
    raise AssertionError("nothing was raised")


def test_the_innermost_frame_of_the_users_counts_and_none_of_a_library_below_it() -> None:
    library = function("lib.client", "raise ValueError", LIBRARY)
    helper = function("shop.mail", "library()", "/app/shop/mail.py", library=library)
    assert place_of(function("shop.tasks", "helper()", "/app/shop/tasks.py", helper=helper)) == (
        "shop.mail:2 in call"
    )


def test_what_the_standard_library_raises_counts_where_it_was_called() -> None:
    call = function("shop.tasks", "loads('{')", "/app/shop/tasks.py", loads=json.loads)
    assert place_of(call) == "shop.tasks:2 in call"


def test_an_application_that_is_installed_as_libraries_are_is_the_users() -> None:
    installed = LIBRARY.replace("/lib/client", "/shop/{}")
    library = function("lib.client", "raise ValueError", LIBRARY)
    helper = function("shop.mail", "library()", installed.format("mail"), library=library)
    outer = function("shop.tasks", "helper()", installed.format("tasks"), helper=helper)
    assert place_of(outer) == "shop.mail:2 in call"


class Odd(str):
    """A text whose methods raise."""

    def partition(self, *_: Any) -> Any:
        raise SystemExit

    __str__ = encode = __format__ = partition  # type: ignore[assignment]


@pytest.mark.parametrize("name", [Odd("shop"), 7, None, "x" * 1000, "nul\0", "\ud800"], ids=range(6))
def test_odd_names_of_modules_do_no_harm(name: Any) -> None:
    place = place_of(function(name, "raise ValueError", "/app/shop/tasks.py"))
    assert len(place.encode()) <= MOST_BYTES
    assert "\0" not in place


def test_code_of_no_file_has_no_place() -> None:
    assert place_of(function("shop", "raise ValueError", "<string>")) == ""
    assert describe(ValueError()).place == ""
