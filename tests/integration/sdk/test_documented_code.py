"""The code in README.md, the quickstart and the guides runs, and what it says of types is so."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hyrex import HyrexRegistry
from tests.support.process import ROOT, environment

PAGES = (
    "docs/howto/recipes.md",
    "docs/howto/workflows.md",
    "docs/howto/approvals.md",
    "docs/reference/middleware.md",
    "docs/reference/codecs.md",
)
HYREX = (sys.executable, "-m", "hyrex.cli")


def blocks(page: str, kind: str = "python") -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def run(place: Path, *command: str) -> str:
    done = subprocess.run(
        command, cwd=place, env=environment({}), capture_output=True, text=True, check=False, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("documented")
    run(place, *HYREX, "init", "shop")
    return place / "shop"


def test_the_first_task_of_the_readme_runs(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(blocks("README.md")[0])
    code = "from app import Order, total\nfrom hyrex.testing import inline\nwith inline():\n"
    code += "    print(total.send(Order(customer='Ada', prices=[1.5, 2.5])).result())\n"
    assert run(tmp_path, sys.executable, "-c", code) == "4.0\n"


def test_the_code_of_the_quickstart_runs(shop: Path) -> None:
    sending, options, testing = blocks("docs/quickstart.md")
    for name, code in (("sending", sending), ("options", options)):
        text = "from hyrex.testing import inline\nwith inline():\n"
        body = "".join(f"    {line}\n" for line in code.splitlines())
        (shop / f"{name}.py").write_text(text + body)
        run(shop, sys.executable, f"{name}.py")
    (shop / "test_quickstart.py").write_text(testing)
    assert "1 passed" in run(shop, sys.executable, "-m", "pytest", "-q", "test_quickstart.py")


def test_the_code_of_the_guide_to_testing_runs(shop: Path) -> None:
    """The last test of the page, with a real broker, is of the kind that test_live.py runs."""
    found = blocks("docs/howto/testing.md")
    (shop / "test_guide.py").write_text("\n".join(found))
    said = run(shop, sys.executable, "-m", "pytest", "-q", "test_guide.py", "-k", "not worker")
    assert f"{len(found) - 1} passed" in said


def as_script(place: Path, name: str, code: str) -> str:
    """What `python NAME.py` prints, its tasks run in place."""
    (place / f"{name}.py").write_text(code)
    start = "import runpy\nfrom hyrex.testing import inline\nwith inline():\n"
    return run(
        place,
        sys.executable,
        "-c",
        f"{start}    runpy.run_module({name!r}, None, '__main__', alter_sys=True)",
    )


def test_the_code_of_the_guide_to_workflows_runs(tmp_path: Path) -> None:
    made, edges, many, _timed, testing = blocks("docs/howto/workflows.md")
    (printed,) = blocks("docs/howto/workflows.md", "text")
    assert as_script(tmp_path, "orders", made) == printed
    as_script(tmp_path, "nightly", edges)
    as_script(tmp_path, "survey", many.replace("10_000", "100").replace("29994", "295"))
    (tmp_path / "test_orders.py").write_text(f"from orders import Order, fulfil\n{testing}")
    assert "2 passed" in run(tmp_path, sys.executable, "-m", "pytest", "-q", "test_orders.py")


def test_every_recipe_runs(tmp_path: Path) -> None:
    """Each in a module of its own, and all in one interpreter, for speed."""
    recipes = [block for page in PAGES for block in blocks(page) if "def test_" not in block]
    for number, code in enumerate(recipes):
        (tmp_path / f"recipe_{number}.py").write_text(code)
    names = [f"recipe_{number}" for number in range(len(recipes))]
    code = "import importlib\nfrom hyrex.testing import inline\n"
    code += f"for name in {names}:\n    with inline():\n        importlib.import_module(name)\n"
    code += "print('all run')\n"
    assert run(tmp_path, sys.executable, "-c", code) == "all run\n"
    assert len(recipes) > 8
    command = (sys.executable, "-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent")
    files = [f"{name}.py" for name in names]
    assert "Success" in run(tmp_path, *command, f"--cache-dir={tmp_path}/cache", *files)


def test_the_stub_of_the_reference_satisfies_the_strictest_checker(tmp_path: Path) -> None:
    (stub,) = [block for block in blocks("docs/reference/api.md") if "@hy.remote" in block]
    (tmp_path / "stub.py").write_text(stub)
    command = (sys.executable, "-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent")
    assert "Success" in run(tmp_path, *command, f"--cache-dir={tmp_path}/cache", "stub.py")
    run(tmp_path, sys.executable, "stub.py")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"priority": 11}, ValueError),
        ({"max_retries": -1}, ValueError),
        ({"timeout_seconds": 0}, ValueError),
        ({"queue": ""}, ValueError),
        ({"priority": "high"}, TypeError),
        ({"on_error": 3}, TypeError),
        ({"no_retry_on": (3,)}, TypeError),
        ({"colour": "red"}, TypeError),
    ],
)
def test_a_bad_option_raises_where_the_task_is_defined(options: dict[str, object], error: type) -> None:
    with pytest.raises(error, match=r"task |colour"):

        @HyrexRegistry().task(**options)  # type: ignore[call-overload,untyped-decorator]
        def task() -> None: ...
