"""scripts/gen-clients makes stubs for every language whose toolchain is here."""

import subprocess
from pathlib import Path

import pytest

from scripts import gate
from tests.conformance.languages import LANGUAGES, build_environment
from tests.support.process import environment

# By language: whose toolchain its generator needs, and one of the files it makes.
MADE = {
    "go": ("go", "hyrex/v1/worker_service_grpc.pb.go"),
    "ts": ("ts", "hyrex/v1/worker_service.ts"),
    "java": ("java", "dev/hyrex/v1/WorkerServiceGrpc.java"),
    "rust": ("rust", "hyrex.v1.tonic.rs"),
    "ruby": ("java", "hyrex/v1/worker_service_pb.rb"),
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("language", MADE)
def test_stubs_are_made(language: str, tmp_path: Path) -> None:
    toolchain, stub = MADE[language]
    if absence := LANGUAGES[toolchain].absence:
        pytest.skip(f"{language}: {absence}")
    done = subprocess.run(
        [str(gate.ROOT / "scripts" / "gen-clients"), "--lang", language, "--out", str(tmp_path)],
        env=environment(build_environment()),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = [path for path in tmp_path.rglob("*") if str(path).endswith(stub)]
    assert found, sorted(map(str, tmp_path.rglob("*")))


def test_an_unknown_language_is_refused_by_name() -> None:
    command = [str(gate.ROOT / "scripts" / "gen-clients"), "--lang", "cobol"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no language 'cobol'" in done.stderr
