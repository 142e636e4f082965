"""Two functions under one name: refused, unless one is the other's text, executed again."""

import functools
from collections.abc import Callable

import pytest

from hyrex import DuplicateTask, HyrexApp, HyrexRegistry


def test_second_function_under_one_name_names_both_places() -> None:
    hy = HyrexRegistry()

    @hy.task
    def twice() -> None: ...

    with pytest.raises(DuplicateTask, match="twice") as caught:

        @hy.task(name="twice")
        def other() -> None: ...

    first, second = caught.value.places
    assert first != second
    assert all("test_duplicates.py:" in place for place in (first, second))
    assert hy.tasks == {"twice": twice}


def test_copied_function_with_the_same_name_in_one_file_is_a_duplicate() -> None:
    hy = HyrexRegistry()

    @hy.task
    def copied() -> None: ...

    with pytest.raises(DuplicateTask):

        @hy.task
        def copied() -> None: ...


CELL = """
@hy.task
def step(x: int) -> int:
    return x + {n}
"""


def test_rerun_notebook_cell_replaces_its_own_task() -> None:
    hy = HyrexRegistry()
    for n in (1, 2):
        exec(
            compile(CELL.format(n=n), f"/tmp/ipykernel_7/{n}.py", "exec"), {"hy": hy, "__name__": "__main__"}
        )
    assert hy.tasks["step"](1) == 3


def test_reloaded_module_replaces_its_own_task() -> None:
    hy = HyrexRegistry()
    for n in (1, 2):
        exec(compile(CELL.format(n=n), "tasks.py", "exec"), {"hy": hy, "__name__": "tasks"})
    assert hy.tasks["step"](1) == 3


@pytest.mark.parametrize("hy", [HyrexRegistry()])
def test_function_that_makes_tasks_makes_each_once(hy: HyrexRegistry) -> None:
    def make(kind: str) -> None:
        @hy.task
        def export(x: int) -> str:
            return f"{kind}{x}"

    make("csv")
    with pytest.raises(DuplicateTask, match="export"):
        make("pdf")
    assert hy.tasks["export"](1) == "csv1"


def test_loop_that_makes_tasks_makes_each_once() -> None:
    text = "for n in (1, 2):\n    @hy.task\n    def step(x: int) -> int: ..."
    for name in ("tasks.py", "<ipython-input-1>", "/tmp/ipykernel_7/1.py"):
        with pytest.raises(DuplicateTask, match="step"):
            exec(compile(text, name, "exec"), {"hy": HyrexRegistry(), "__name__": "tasks"})


def test_names_of_their_own_make_many_tasks_of_one_function() -> None:
    hy = HyrexRegistry()
    for kind in ("csv", "pdf"):

        @hy.task(name=f"export_{kind}")
        def export(x: int) -> None: ...

    assert set(hy.tasks) == {"export_csv", "export_pdf"}


def test_rerun_cell_below_a_wrapper_of_a_library_replaces_its_own_task() -> None:
    hy = HyrexRegistry()

    def traced(function: Callable[..., object]) -> Callable[..., object]:
        @functools.wraps(function)
        def wrapper(*args: object, **kwargs: object) -> object:
            return function(*args, **kwargs)

        return wrapper

    text = CELL.replace("@hy.task", "@hy.task\n@traced")
    for n in (1, 2):
        names = {"hy": hy, "traced": traced, "__name__": "__main__"}
        exec(compile(text.format(n=n), "<ipython-input-1>", "exec"), names)
    assert hy.tasks["step"](1) == 3


def test_duplicate_across_registries_is_found_when_they_meet() -> None:
    app, one, two = HyrexApp("shop"), HyrexRegistry(), HyrexRegistry()

    @one.task(name="same")
    def first() -> None: ...

    @two.task(name="same")
    def second() -> None: ...

    app.add_registry(one)
    with pytest.raises(DuplicateTask, match="same"):
        app.add_registry(two)
