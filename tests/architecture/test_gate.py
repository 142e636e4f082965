"""The gate's steps fail where they should: one that cannot is worse than none."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.process import ROOT

SITE = """
site_name: Site
nav: [index.md]
validation:
  nav:
    omitted_files: warn
"""


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The gate, at work on an empty folder."""
    spec = importlib.util.spec_from_file_location("gate", ROOT / "scripts" / "gate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gate", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "mkdocs.yml").write_text(SITE, encoding="utf-8")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# Index\n", encoding="utf-8")
    return module


def test_a_page_without_a_place_in_the_site_fails_the_docs_step(gate: ModuleType, tmp_path: Path) -> None:
    whole = gate.docs()
    assert whole.passed, whole.text
    (tmp_path / "docs" / "lost.md").write_text("# Lost\n", encoding="utf-8")
    found = gate.docs()
    assert not found.passed
    assert "lost.md" in found.text
