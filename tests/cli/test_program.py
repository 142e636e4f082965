"""The program's border: one line and an exit status, never a traceback."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.process import environment


def hyrex(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hyrex.cli", *arguments],
        cwd=cwd,
        env=environment(env),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def own_port() -> tuple[str, str]:
    """For `hyrex dev`, which looks at its port first: somebody may use the usual one."""
    return "--port", str(free_port())


def refused(done: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    """The command ended with this status and one clear line that has all of these words."""
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr


def test_version_is_printed(tmp_path: Path) -> None:
    assert hyrex("version", cwd=tmp_path).stdout.startswith("hyrex 1.")


def test_unknown_command_ends_with_status_2(tmp_path: Path) -> None:
    assert hyrex("fly", cwd=tmp_path).returncode == 2


def test_init_makes_a_project_and_says_what_is_next(tmp_path: Path) -> None:
    done = hyrex("init", "shop", cwd=tmp_path)
    assert (
        done.stdout == "created app.py tasks.py send.py test_tasks.py pytest.ini requirements.txt README.md\n"
        "next: cd shop && hyrex dev\n"
    )
    assert sorted(path.name for path in (tmp_path / "shop").iterdir()) == [
        "README.md",
        "app.py",
        "pytest.ini",
        "requirements.txt",
        "send.py",
        "tasks.py",
        "test_tasks.py",
    ]
    assert 'HyrexApp("shop")' in (tmp_path / "shop" / "app.py").read_text()


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text("mine")
    refused(hyrex("init", ".", cwd=tmp_path), 2, "tasks.py exists already")
    assert (tmp_path / "tasks.py").read_text() == "mine"
    assert not (tmp_path / "app.py").exists()


def test_dev_without_an_app_says_how_to_get_one(tmp_path: Path) -> None:
    refused(hyrex("dev", cwd=tmp_path), 2, "there is no app.py here", "hyrex init")


def test_dev_with_a_wrong_module_says_where_it_looked(tmp_path: Path) -> None:
    refused(hyrex("dev", "shop:app", "--port", "0", cwd=tmp_path), 2, "no module 'shop'", str(tmp_path))
    assert not (tmp_path / ".hyrex").exists()


def test_dev_with_a_wrong_attribute_lists_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("from hyrex import HyrexApp\nstore = HyrexApp('store')\n")
    refused(hyrex("dev", "shop:app", "--port", "0", cwd=tmp_path), 2, "no 'app'", "shop:store (HyrexApp)")


@pytest.mark.parametrize(
    "command", [("task", "list"), ("queue", "list"), ("worker", "list"), ("broker", "list")]
)
def test_missing_broker_is_named_with_what_to_do(tmp_path: Path, command: tuple[str, ...]) -> None:
    url = "grpc://127.0.0.1:1"
    refused(hyrex(*command, cwd=tmp_path, HYREX_BROKER_URL=url), 1, f"no answer from {url}", "hyrex dev")


def test_malformed_broker_url_is_refused(tmp_path: Path) -> None:
    refused(
        hyrex("task", "list", "--broker-url", "localhost", cwd=tmp_path),
        2,
        "'localhost'",
        "grpc://host:50051",
    )


def test_unknown_status_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    refused(hyrex("task", "list", "--status", "done", cwd=tmp_path), 2, "no status 'done'", "completed")


def test_broker_without_a_database_says_what_to_set(tmp_path: Path) -> None:
    refused(hyrex("run-broker", cwd=tmp_path), 2, "HYREX_DATABASE_URL", "hyrex dev")
    refused(hyrex("migrate", cwd=tmp_path), 2, "HYREX_DATABASE_URL")


def test_unreachable_database_is_one_line(tmp_path: Path) -> None:
    url = "postgresql://nobody@127.0.0.1:1/none"
    refused(hyrex("migrate", "--database-url", url, cwd=tmp_path), 1)


def test_worker_options_are_checked(tmp_path: Path) -> None:
    refused(hyrex("run-worker", "app:app", "--threads", "0", cwd=tmp_path), 2, "threads must be at least 1")
    refused(hyrex("run-worker", "app:app", "--prefetch", "much", cwd=tmp_path), 2, "'auto' or a number")


def test_migrate_brings_an_empty_database_to_the_newest_schema(
    tmp_path: Path, empty_database_url: str
) -> None:
    first = hyrex("migrate", cwd=tmp_path, HYREX_DATABASE_URL=empty_database_url)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("schema hyrex of the database is at version ")
    assert hyrex("migrate", cwd=tmp_path, HYREX_DATABASE_URL=empty_database_url).stdout == first.stdout


def test_migrate_makes_the_schema_that_is_named_and_grants_what_a_broker_needs(
    tmp_path: Path, empty_database_url: str
) -> None:
    env = {"HYREX_DATABASE_URL": empty_database_url}
    named = hyrex("migrate", "--schema", "tasks", "--grant-to", "pg_monitor", cwd=tmp_path, **env)
    assert named.stdout.startswith("schema tasks of the database is at version "), named.stderr
    refused(
        hyrex("migrate", "--schema", "pg_own", cwd=tmp_path, **env), 2, "--schema pg_own: must be up to 40"
    )
    refused(
        hyrex("migrate", "--schema", "tasks", "--grant-to", "nobody", cwd=tmp_path, **env),
        1,
        "no role 'nobody'",
    )


@pytest.mark.parametrize("arguments", [["--version"], ["version"]])
def test_version_is_an_option_and_a_command(tmp_path: Path, arguments: list[str]) -> None:
    assert hyrex(*arguments, cwd=tmp_path).stdout.startswith("hyrex 1.")


@pytest.mark.parametrize("module", ["hyrex_broker", "hyrex.worker"])
def test_processes_know_their_version(tmp_path: Path, module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--version"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("hyrex 1.")


def test_a_file_as_target_gets_the_module_to_name(tmp_path: Path) -> None:
    for given, wanted in (
        ("app.py:app", "try app:app"),
        ("app.py", "try app:app"),
        ("src/shop/main.py:web", "try shop.main:web --app-dir src"),
        ("./app.py:app", "try app:app"),
    ):
        for command in (("dev", *own_port()), ("run-worker",)):
            done = hyrex(*command, given, cwd=tmp_path, HYREX_BROKER_URL="grpc://127.0.0.1:1")
            assert done.returncode in (2, 3), done.stderr
            assert wanted in done.stderr + done.stdout, (given, command)


@pytest.mark.parametrize("command", [("dev",), ("run-worker", "shop:app")])
def test_a_folder_that_is_not_there_is_told_by_the_name_it_was_given_by(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    target = ("dev", "shop:app", *own_port()) if command == ("dev",) else command
    said = hyrex(*target, "--app-dir", "nowhere", cwd=tmp_path).stderr
    assert f"--app-dir {tmp_path / 'nowhere'}: there is no such folder" in said
    said = hyrex(*target, cwd=tmp_path, HYREX_APP_DIR="nowhere", HYREX_BROKER_URL="grpc://127.0.0.1:1").stderr
    assert f"HYREX_APP_DIR is {tmp_path / 'nowhere'}: there is no such folder" in said
    assert "--app-dir" not in said


def test_an_app_below_src_is_found_with_app_dir_and_hinted_at_without(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "shop.py").write_text("import nothing_like_this")
    without = hyrex("run-worker", "shop:app", cwd=tmp_path, HYREX_BROKER_URL="grpc://127.0.0.1:1")
    assert "one in src/: add --app-dir src" in without.stderr
    found = hyrex(
        "run-worker", "shop:app", "--app-dir", "src", cwd=tmp_path, HYREX_BROKER_URL="grpc://127.0.0.1:1"
    )
    assert "No module named 'nothing_like_this'" in found.stderr
    (tmp_path / "src" / "app.py").write_text("")
    assert "try `hyrex dev --app-dir src`" in hyrex("dev", cwd=tmp_path).stderr
