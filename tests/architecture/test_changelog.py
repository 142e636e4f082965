"""The gate's step that asks for a line in CHANGELOG.md, in repositories of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.process import ROOT

PEOPLE = [f"GIT_{who}_{what}" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")]
OURS = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
ENV = OURS | dict.fromkeys(PEOPLE, "ada@example.org") | {"GIT_CONFIG_GLOBAL": os.devnull}
pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


class Repository:
    """A repository with the step in it; its branch is main."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "scripts").mkdir(parents=True)
        shutil.copy(ROOT / "scripts" / "changelog.py", root / "scripts")
        self.write("CHANGELOG.md", "# Changelog\n\n## [Unreleased]\n\n- first\n")
        self.write("hyrex/a.py", "1")

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(exist_ok=True)
        (self.root / path).write_text(text)

    def git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.root, env=ENV, check=True, capture_output=True)

    def commit(self, message: str = "A change") -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)

    def step(self) -> int:
        command = [sys.executable, "scripts/changelog.py"]
        return subprocess.run(command, cwd=self.root, env=ENV, check=False, capture_output=True).returncode


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path.resolve() / "repository")
    made.git("init", "-q", "-b", "main")
    made.commit()
    return made


def test_a_change_needs_a_line_before_and_after_its_commit(repository: Repository) -> None:
    assert repository.step() == 0
    repository.write("hyrex/a.py", "2")
    assert repository.step() == 1
    repository.commit()
    assert repository.step() == 1
    repository.write("CHANGELOG.md", "# Changelog\n\n## [Unreleased]\n\n- second\n- first\n")
    assert repository.step() == 0


def test_what_is_not_the_product_and_what_nobody_notices_need_none(repository: Repository) -> None:
    repository.write("tests/test_a.py", "2")
    repository.commit()
    repository.write("hyrex/a.py", "2 ")
    repository.commit("Order the imports\n\nChangelog: none")
    assert repository.step() == 0


def test_a_branch_is_compared_with_where_it_left_main(repository: Repository) -> None:
    repository.write("broker/a.py", "1")
    repository.write("CHANGELOG.md", "- second\n- first\n")
    repository.commit()
    repository.git("switch", "-q", "-c", "feature")
    assert repository.step() == 0
    repository.write("proto/a.proto", "1")
    repository.commit()
    assert repository.step() == 1


def test_after_a_release_the_lines_of_before_do_not_count(repository: Repository) -> None:
    repository.write("hyrex/a.py", "2")
    repository.write("CHANGELOG.md", "- second\n- first\n")
    repository.commit()
    repository.git("tag", "v1.0.0")
    assert repository.step() == 0
    repository.write("hyrex/a.py", "3")
    repository.commit()
    assert repository.step() == 1


def test_without_history_the_step_asks_to_be_skipped(repository: Repository, tmp_path: Path) -> None:
    repository.write("hyrex/a.py", "2")
    repository.commit()
    shallow = tmp_path / "shallow"
    repository.git("clone", "-q", "--depth=1", f"file://{repository.root}", str(shallow))
    bare = Repository(tmp_path.resolve() / "bare")
    for root in (shallow, bare.root):
        command = [sys.executable, "scripts/changelog.py"]
        assert subprocess.run(command, cwd=root, env=ENV, check=False, capture_output=True).returncode == 77
