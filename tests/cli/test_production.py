"""`hyrex run-broker` and `hyrex run-worker`, as a service manager starts them."""

import subprocess
import sys
from pathlib import Path

from tests.support.process import Process, environment
from tests.support.processes import Processes

HYREX = (sys.executable, "-m", "hyrex.cli")
APP = """
from hyrex import HyrexApp, HyrexRegistry

hy = HyrexRegistry()
app = HyrexApp("shop")


@hy.task
def double(number: int) -> int:
    return number * 2


app.add_registry(hy)
"""


def start_broker(processes: Processes, database_url: str) -> tuple[Process, str]:
    env = {"HYREX_DATABASE_URL": database_url, "HYREX_TOKEN": "secret"}
    process = processes.start("broker", *HYREX, "run-broker", "--listen", "127.0.0.1:0", env=env)
    return process, "grpc://" + process.wait_for(r"broker ready: listening on (\S+)")[1]


def test_token_protects_broker_and_both_end_on_sigterm(
    processes: Processes, database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(APP)
    broker, url = start_broker(processes, database_url)
    env = {"HYREX_BROKER_URL": url, "HYREX_TOKEN": "secret"}
    command = [
        *HYREX,
        "run-worker",
        "shop:app",
        "-p",
        "1",
        "-q",
        "default",
        "-q",
        "reports.*",
        "--name",
        "w1",
    ]
    worker = processes.start("worker", *command, env=env, cwd=tmp_path)
    worker.wait_for(r"worker ready: w1, 1 task\b")
    send = [sys.executable, "-c", "from shop import double; print(double.send(21).result(60))"]
    done = subprocess.run(
        send, cwd=tmp_path, env=environment(env), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout == "42\n", done.stderr
    assert worker.terminate() == 0
    assert broker.terminate() == 0


def test_wrong_token_ends_a_command_with_one_line(processes: Processes, database_url: str) -> None:
    _, url = start_broker(processes, database_url)
    lister = processes.start(
        "list", *HYREX, "worker", "list", "--broker-url", url, env={"HYREX_TOKEN": "wrong"}
    )
    assert lister.wait() == 1
    assert lister.output.startswith("error: the call carries no valid token")
    assert len(lister.output.splitlines()) == 1


def test_database_url_and_token_stay_out_of_the_process_list(processes: Processes, database_url: str) -> None:
    command = [
        *HYREX,
        "run-broker",
        "--listen",
        "127.0.0.1:0",
        "--token",
        "secret",
        "--database-url",
        database_url,
    ]
    broker = processes.start("broker", *command)
    broker.wait_for(r"broker ready")
    arguments = Path(f"/proc/{broker.pid}/cmdline").read_bytes()
    assert b"-m\0hyrex_broker" in arguments
    assert b"secret" not in arguments
    assert b"postgresql://" not in arguments


def test_worker_for_a_wrong_target_says_what_there_is(
    processes: Processes, database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(APP)
    _, url = start_broker(processes, database_url)
    env = {"HYREX_BROKER_URL": url, "HYREX_TOKEN": "secret"}
    worker = processes.start("worker", *HYREX, "run-worker", "shop:store", env=env, cwd=tmp_path)
    assert worker.wait() == 3
    assert "module 'shop' has no 'store'; it does contain: shop:app (HyrexApp)" in worker.output


def test_token_of_a_file_opens_the_broker_to_worker_sender_and_command_line(
    processes: Processes, database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(APP)
    (tmp_path / "token").write_text("from-a-file\n")
    secret = {"HYREX_TOKEN_FILE": str(tmp_path / "token")}
    broker = processes.start(
        "broker",
        *HYREX,
        "run-broker",
        "--listen",
        "127.0.0.1:0",
        env=secret | {"HYREX_DATABASE_URL": database_url},
    )
    env = secret | {"HYREX_BROKER_URL": "grpc://" + broker.wait_for(r"listening on (\S+)")[1]}
    worker = processes.start("worker", *HYREX, "run-worker", "shop:app", "-p", "1", env=env, cwd=tmp_path)
    worker.wait_for(r"worker ready")
    send = [sys.executable, "-c", "from shop import double; print(double.send(21).result(60))"]
    done = subprocess.run(
        send, cwd=tmp_path, env=environment(env), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout == "42\n", done.stderr
    listing = processes.start("list", *HYREX, "worker", "list", env=env)
    assert listing.wait() == 0, listing.output
    worker.terminate()


def test_token_file_that_is_missing_ends_a_worker_with_one_line(processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP)
    env = {"HYREX_TOKEN_FILE": str(tmp_path / "absent")}
    worker = processes.start("worker", *HYREX, "run-worker", "shop:app", env=env, cwd=tmp_path)
    assert worker.wait() == 2
    assert "HYREX_TOKEN_FILE" in worker.output
    assert "Traceback" not in worker.output
