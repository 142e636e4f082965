"""The applications of the pages for those who come from elsewhere, and of a web application, as they run."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.process import ROOT, environment
from tests.support.processes import RunningBroker, StartWorker

PAGES: Final = sorted(path.name for path in (ROOT / "docs" / "howto").glob("from-*.md"))
WEB: Final = """
import pictures
from fastapi.testclient import TestClient
with TestClient(pictures.api) as client:
    begun = client.post("/pictures?image=cat.png")
    assert begun.status_code == 202
    task = begun.json()["task"]
    pictures.shrink.handle(task).wait(timeout=60)
    print(client.get(f"/pictures/{task}").json())
    print(client.get("/pictures/01900000-0000-7000-8000-000000000000").status_code)
"""
MYPY: Final = ("-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent")


def blocks(page: str, kind: str) -> list[str]:
    text = (ROOT / "docs" / "howto" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def module_of(page: str) -> str:
    return re.sub(r"\W", "_", page.removesuffix(".md"))


def run(place: Path, *arguments: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=place, env=environment(env), capture_output=True, text=True,
        check=False, timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each page's application as a module, and an app of all of them, so that one worker serves all."""
    found = tmp_path_factory.mktemp("elsewhere")
    modules = [module_of(page) for page in PAGES]
    for page, module in zip(PAGES, modules, strict=True):
        (application,) = blocks(page, "python")
        (found / f"{module}.py").write_text(application)
    recipes = (ROOT / "docs" / "howto" / "recipes.md").read_text(encoding="utf-8")
    (web,) = re.findall(r"^```python\n((?:(?!^```).)*FastAPI\(\).*?)^```", recipes, re.MULTILINE | re.DOTALL)
    (found / "pictures.py").write_text(web)
    every = "".join(f"import {name}\napp.add_registry({name}.hy)\n" for name in (*modules, "pictures"))
    (found / "every.py").write_text(f"from hyrex import HyrexApp\napp = HyrexApp('every')\n{every}")
    return found


def test_each_application_does_with_a_worker_what_its_page_says(
    place: Path, broker: RunningBroker, start_worker: StartWorker
) -> None:
    start_worker("every:app", "-p", "2", cwd=place)
    code = "".join(
        f"runpy.run_path('{module_of(page)}.py', run_name='__main__')\nprint('---')\n" for page in PAGES
    )
    printed = run(place, "-c", f"import runpy\n{code}", HYREX_BROKER_URL=broker.url)
    said = dict(zip(PAGES, printed.split("---\n")[:-1], strict=True))
    assert said == {page: blocks(page, "text")[0] for page in PAGES}
    answered = run(place, "-c", WEB, HYREX_BROKER_URL=broker.url)
    assert answered == "{'status': 'completed', 'picture': 'cat.png at 100'}\n404\n"


def test_the_applications_satisfy_the_strictest_checker(place: Path) -> None:
    files = [f"{module_of(page)}.py" for page in PAGES]
    assert "Success" in run(place, *MYPY, f"--cache-dir={place}/cache", *files)


@pytest.mark.parametrize("page", PAGES)
def test_the_application_of_before_is_python(page: str) -> None:
    """It needs another library, so it is not run."""
    (before,) = blocks(page, "py")
    compile(before, page, "exec")
