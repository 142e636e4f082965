"""The program in odd surroundings: values that cannot be, full disks, encodings, closed pipes, Ctrl-C."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hyrex.cli.task_send import json_payload
from tests.cli.test_program import hyrex, refused
from tests.support.process import environment

SEND = ("task", "send", "hello")
NOWHERE = "grpc://127.0.0.1:1"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((*SEND, '{"a": NaN}'), "NaN is no JSON number"),
        ((*SEND, '{"a": -Infinity}'), "-Infinity is no JSON number"),
        ((*SEND, '{"a": 1, "a": 2}'), "'a' occurs twice"),
        ((*SEND, "[" * 100_000), "not JSON"),
        ((*SEND, "--", b'{"a": "\xff"}'), "not JSON"),
        (("migrate", "--database-url", "foo"), "postgresql://user:password@host:5432/database"),
        (("migrate", "--database-url", "postgresql://u:secret@host:abc/x"), "names port 'abc'"),
        (("doctor", "--database-url", "mysql://host/x"), "postgresql://user:password@host:5432/database"),
        (("run-broker", "--database-url", "postgresql://u:secret@a:1,b:0/x"), "names port '0'"),
        (("run-worker", "app:app", "--drain-timeout", "nan"), "drain_timeout_s"),
        (("run-worker", "app:app", "--grace", "inf"), "grace_s"),
        (("run-worker", "app:app", "--broker-url", "localhost"), "'localhost' is not like grpc://host:50051"),
        (("init", ""), "no name for a folder"),
        (("init", "a\nb"), "no name for a folder"),
    ],
)
def test_what_cannot_be_is_one_line_and_status_2(
    tmp_path: Path, arguments: tuple[str, ...], word: str
) -> None:
    done = hyrex(*arguments, cwd=tmp_path, HYREX_BROKER_URL=NOWHERE)
    refused(done, 2, word)
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (*SEND, "--timeout", "inf"),
        (*SEND, "--delay", "inf"),
        (*SEND, "--wait", "inf"),
        (*SEND, "--max-retries", "99999999999"),
        ("queue", "limit", "default", "99999999999"),
        ("dev", "--port", "99999"),
        ("dev", "-p", "-1"),
    ],
)
def test_numbers_that_cannot_be_are_wrong_arguments(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = hyrex(*arguments, cwd=tmp_path, HYREX_BROKER_URL=NOWHERE)
    assert done.returncode == 2, done.stderr
    assert "Invalid value" in done.stderr
    assert "Error: ValueError" not in done.stderr


@pytest.mark.parametrize(
    ("variables", "word"),
    [
        ({"HYREX_TOKEN": "a", "HYREX_TOKEN_FILE": "/b"}, "keep one"),
        ({"HYREX_TOKEN_FILE": "/nowhere/token"}, "/nowhere/token: cannot be read"),
        ({"HYREX_TOKEN": "ž"}, "visible ASCII"),
    ],
)
def test_a_token_that_cannot_be_used_is_a_wrong_argument(
    tmp_path: Path, variables: dict[str, str], word: str
) -> None:
    done = hyrex("task", "list", cwd=tmp_path, **variables)
    refused(done, 2, word)
    assert "ValueError" not in done.stderr


@pytest.mark.parametrize(
    "variables",
    [{"HYREX_BROKER_URL": "localhost"}, {"HYREX_SEND_TIMEOUT": "soon"}, {"HYREX_TOKEN_FILE": "/nowhere"}],
)
def test_a_worker_whose_environment_cannot_be_used_ends_at_once(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    (tmp_path / "app.py").write_text("from hyrex import HyrexApp\napp = HyrexApp('app')\n")
    (value,) = variables.values()
    refused(hyrex("run-worker", "app:app", cwd=tmp_path, **variables), 2, value)


def test_a_worker_target_without_a_module_is_one_line(tmp_path: Path) -> None:
    done = hyrex("run-worker", ":app", cwd=tmp_path, HYREX_BROKER_URL=NOWHERE)
    refused(done, 3, "names no module", "app:app")


def test_a_module_beside_the_targets_file_is_hinted_at(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "app.py").write_text("import prices\n")
    (tmp_path / "shop" / "prices.py").write_text("")
    done = hyrex("run-worker", "shop.app:app", cwd=tmp_path, HYREX_BROKER_URL=NOWHERE)
    assert done.returncode == 3
    assert "prices is in shop/: try app:APP --app-dir shop" in done.stderr


@pytest.mark.parametrize("name", ["my shop", 'a"b', "back\\", "žluť", "-x"])
def test_a_project_with_an_odd_name_can_be_imported_and_entered(tmp_path: Path, name: str) -> None:
    done = hyrex("init", "--", name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    entered = done.stdout.splitlines()[1].removeprefix("next: ").replace("hyrex dev", "pwd")
    place = subprocess.run(["sh", "-c", entered], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert place.stdout.strip() == str(tmp_path / name)
    command = [sys.executable, "-c", "import app; print(app.app.name)"]
    found = subprocess.run(command, cwd=tmp_path / name, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == name


def test_a_data_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("from hyrex import HyrexApp\napp = HyrexApp('app')\n")
    done = hyrex("dev", "--data-dir", "app.py", "--port", "0", cwd=tmp_path)
    refused(done, 1, "--data-dir app.py: cannot be written", "another folder")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "hyrex.cli", "version"],
            cwd=tmp_path,
            env=environment({}),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    refused(done, 1, "No space left")


def test_a_reader_that_has_left_is_no_error_to_speak_of(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "hyrex.cli", "--help"],
        cwd=tmp_path,
        env=environment({}),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(writing)
    assert done.stderr == ""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_is_json_in_every_encoding(encoding: str) -> None:
    code = "from hyrex.cli.output import make_writable, print_json, print_table\n"
    code += "make_writable()\nprint_json({'a': '\\u017dofia \\U0001f600 \\xe9'})\n"
    code += "print_table(['a'], [['\\u017d']], '')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment({"PYTHONIOENCODING": encoding}),
        capture_output=True,
        check=True,
        timeout=60,
    )
    text = done.stdout.decode(encoding)
    assert json.loads(text[: text.index("}") + 1]) == {"a": "Žofia 😀 é"}
    assert ("Ž" if encoding == "utf-8" else r"\u017d") in text[text.index("}") :]


def test_tables_do_nothing_where_the_output_is_closed(tmp_path: Path) -> None:
    code = "from hyrex.cli.output import print_table; print_table(['a'], [['b']], '')"
    command = ["sh", "-c", f'exec "{sys.executable}" -c "{code}" >&-']
    done = subprocess.run(
        command, env=environment({}), capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_while_the_program_is_loaded_is_no_traceback(tmp_path: Path) -> None:
    """The import of typer, which takes half of the time of most commands, is where it falls here."""
    (tmp_path / "typer.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    done = hyrex("version", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ('{ "a": 0.10 }', '{"a":0.1}'),
        ('{"a": "\\u017d"}', '{"a":"Ž"}'),
        ('{"a": 0.12345678901234567890}', '{"a": 0.12345678901234567890}'),
        ('{"a": 1e999}', '{"a": 1e999}'),
    ],
)
def test_arguments_are_stored_as_the_sdk_writes_them_unless_a_number_would_change(
    written: str, stored: str
) -> None:
    assert json_payload(written).decode() == stored
