"""The applications of the pages for those who come from elsewhere run, and print what the pages say."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.process import ROOT, environment
from tests.support.processes import RunningBroker, StartWorker

PAGES: Final = sorted(path.name for path in (ROOT / "docs" / "howto").glob("from-*.md"))
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
    every = "".join(f"import {module}\napp.add_registry({module}.hy)\n" for module in modules)
    (found / "every.py").write_text(f"from hyrex import HyrexApp\napp = HyrexApp('every')\n{every}")
    return found


def test_each_application_runs_and_prints_what_its_page_says(
    place: Path, broker: RunningBroker, start_worker: StartWorker
) -> None:
    start_worker("every:app", "-p", "2", cwd=place)
    code = "".join(
        f"runpy.run_path('{module_of(page)}.py', run_name='__main__')\nprint('---')\n" for page in PAGES
    )
    printed = run(place, "-c", f"import runpy\n{code}", HYREX_BROKER_URL=broker.url)
    said = dict(zip(PAGES, printed.split("---\n")[:-1], strict=True))
    assert said == {page: blocks(page, "text")[0] for page in PAGES}


def test_the_applications_satisfy_the_strictest_checker(place: Path) -> None:
    files = [f"{module_of(page)}.py" for page in PAGES]
    assert "Success" in run(place, *MYPY, f"--cache-dir={place}/cache", *files)


@pytest.mark.parametrize("page", PAGES)
def test_the_application_of_before_is_python(page: str) -> None:
    """It needs another library, so it is not run."""
    (before,) = blocks(page, "py")
    compile(before, page, "exec")
