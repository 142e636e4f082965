"""Every command of docs/howto/grpcurl.md works against a broker, through reflection."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from scripts import gate
from tests.support.processes import StartBroker

PAGE = gate.ROOT / "docs" / "howto" / "grpcurl.md"
TOKEN = "open-sesame"


def blocks() -> list[str]:
    """The page's commands, block by block."""
    return re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL)


def buf_folder() -> Path:
    """Where buf is; installed as the gate does."""
    program = gate.BUF_HOME / "node_modules" / ".bin" / "buf"
    if not program.exists():
        installed = gate.install_buf()
        if not installed.passed and not os.environ.get("CI"):
            pytest.skip(f"no buf: {installed.text}")
        assert installed.passed, installed.text
    return program.parent


def run_page(url: str, token: str) -> str:
    """Run all blocks in one shell; what they printed. Stops at the first command that fails."""
    first, *rest = blocks()
    first = first.replace("http://127.0.0.1:50051", url).replace("HYREX_TOKEN= ", f"HYREX_TOKEN={token} ")
    path = f"{buf_folder()}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join([first, *rest])],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_every_command_of_the_page_works(start_broker: StartBroker) -> None:
    printed = run_page(f"http://{start_broker('--token', TOKEN).address}", TOKEN)
    for said in (
        "hyrex.v1.TaskService/SubmitTasks",
        '"SERVING"',
        "SUBMIT_OUTCOME_STORED",
        "TASK_STATUS_QUEUED",
        '"sessionSecret"',
        "TASK_STATUS_CANCELLED",
        "google.rpc.ErrorInfo",
    ):
        assert said in printed, f"{said} is missing in\n{printed}"
