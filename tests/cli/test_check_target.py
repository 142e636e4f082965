"""The scratch import tells where the user's own code is wrong."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.process import environment


def check(folder: Path, source: str, app_dir: str = "") -> dict[str, Any]:
    (folder / app_dir / "shop.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "hyrex.cli.check_target", "shop:app"],
        cwd=folder,
        env=environment({"HYREX_APP_DIR": app_dir}),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_sound_code_is_counted(tmp_path: Path) -> None:
    source = "from hyrex import HyrexApp\nprint('noise')\napp = HyrexApp('shop')\n"
    assert check(tmp_path, source) == {"tasks": 0}


def test_syntax_error_has_its_line(tmp_path: Path) -> None:
    found = check(tmp_path, "one = 1\ntwo = (\n")
    assert (found["place"], found["error"]) == ("shop.py:2", "SyntaxError: '(' was never closed")


def test_error_at_import_has_the_line_of_the_users_code(tmp_path: Path) -> None:
    found = check(tmp_path, "import json\n\njson.loads('{')\n")
    assert found["place"] == "shop.py:3"
    assert found["error"].startswith("JSONDecodeError: ")
    assert "shop.py" in found["traceback"].splitlines()[1]


def test_the_folder_of_the_app_may_be_another_one(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    found = check(tmp_path / "here", "import json\n\njson.loads('{')\n", "../there")
    assert found["place"] == f"{tmp_path / 'there' / 'shop.py'}:3"
    assert "shop.py" in found["traceback"].splitlines()[1]


def test_exit_at_import_is_an_error_too(tmp_path: Path) -> None:
    assert check(tmp_path, "raise SystemExit('stop')\n")["error"] == "SystemExit: stop"


def test_missing_library_is_not_taken_for_a_missing_target(tmp_path: Path) -> None:
    assert check(tmp_path, "import no_such_library\n")["error"].startswith("ModuleNotFoundError: ")
