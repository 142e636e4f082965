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


def applications() -> dict[str, tuple[str, str]]:
    """Each application of each page by the name of a module, with what the page says that it prints."""
    return {
        re.sub(r"\W", "_", f"{page.removesuffix('.md')}_{number}"): found
        for page in PAGES
        for number, found in enumerate(zip(blocks(page, "python"), blocks(page, "text"), strict=True))
    }


def run(place: Path, *arguments: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=place, env=environment(env), capture_output=True, text=True,
        check=False, timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each application as a module, and an app of all of them, so that one worker serves all."""
    found = tmp_path_factory.mktemp("elsewhere")
    for module, (application, _) in applications().items():
        (found / f"{module}.py").write_text(application)
    recipes = (ROOT / "docs" / "howto" / "recipes.md").read_text(encoding="utf-8")
    (web,) = re.findall(r"^```python\n((?:(?!^```).)*FastAPI\(\).*?)^```", recipes, re.MULTILINE | re.DOTALL)
    (found / "pictures.py").write_text(web)
    every = "".join(f"import {name}\napp.add_registry({name}.hy)\n" for name in (*applications(), "pictures"))
    (found / "every.py").write_text(f"from hyrex import HyrexApp\napp = HyrexApp('every')\n{every}")
    return found


def test_each_application_does_with_a_worker_what_its_page_says(
    place: Path, broker: RunningBroker, start_worker: StartWorker
) -> None:
    start_worker("every:app", "-p", "2", cwd=place)
    code = "".join(
        f"runpy.run_path('{module}.py', run_name='__main__')\nprint('---')\n" for module in applications()
    )
    printed = run(place, "-c", f"import runpy\n{code}", HYREX_BROKER_URL=broker.url)
    told = dict(zip(applications(), printed.split("---\n")[:-1], strict=True))
    assert told == {module: said for module, (_, said) in applications().items()}
    answered = run(place, "-c", WEB, HYREX_BROKER_URL=broker.url)
    assert answered == "{'status': 'completed', 'picture': 'cat.png at 100'}\n404\n"


def test_the_applications_satisfy_the_strictest_checker(place: Path) -> None:
    files = [f"{module}.py" for module in applications()]
    assert "Success" in run(place, *MYPY, f"--cache-dir={place}/cache", *files)


@pytest.mark.parametrize("page", PAGES)
def test_each_application_of_before_is_python_and_has_one_of_after(page: str) -> None:
    """It needs another library, so it is not run."""
    before = blocks(page, "py")
    assert len(before) == len(blocks(page, "python"))
    for each in before:
        compile(each, page, "exec")
