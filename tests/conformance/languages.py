"""The languages of the suite: what each needs on a machine, how its agent is built and started."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
CLIENTS: Final = ROOT / "clients"
CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
BUILD_WITHIN_S: Final = 900.0


class BuildFailed(Exception):
    """The agent could not be built; the text is what the build printed."""


@dataclass(frozen=True, slots=True)
class Language:
    """One language."""

    name: str
    needs: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    folder: str = ""
    probe: tuple[str, ...] = ()
    """A command that fails where the toolchain is there by name only (rustup without a toolchain)."""

    @property
    def home(self) -> Path:
        """Where its client is."""
        return CLIENTS / (self.folder or self.name)

    @property
    def absence(self) -> str:
        """Why it cannot run on this machine; empty if it can."""
        missing = [program for program in self.needs if shutil.which(program, path=search_path()) is None]
        if missing:
            return f"{', '.join(missing)} not installed"
        if self.probe and self._probe_fails():
            return f"`{' '.join(self.probe)}` fails"
        if not self.command and not (self.home / "build").exists():
            return f"{self.home.relative_to(ROOT)}/build does not exist"
        return ""

    def _probe_fails(self) -> bool:
        done = subprocess.run(self.probe, capture_output=True, env=build_environment(), check=False)
        return done.returncode != 0

    @property
    def agent(self) -> list[str]:
        """The command that starts the agent."""
        return list(self.command) or [str(self.home / "agent")]

    async def build(self) -> None:
        """Make the agent; quick when nothing has changed. Raises: BuildFailed."""
        if self.command:
            return
        status, printed = await printed_by([*_politely(), str(self.home / "build")], BUILD_WITHIN_S)
        if status is None:
            raise BuildFailed(f"no end after {BUILD_WITHIN_S:.0f} s\n{printed[-6000:]}")
        if status != 0:
            raise BuildFailed(printed[-6000:])


async def printed_by(command: list[str], within_s: float) -> tuple[int | None, str]:
    """How a build ended (None: it took too long, and was ended with its compilers), and what it printed.

    It prints into a file: compilers that outlive their build would keep a pipe open for as long.
    """
    with tempfile.TemporaryFile() as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            env=build_environment(),
            start_new_session=True,
        )
        status: int | None = None
        try:
            async with asyncio.timeout(within_s):
                status = await process.wait()
        except TimeoutError:
            pass
        finally:
            if status is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        output.seek(0)
        return status, output.read().decode(errors="replace")


def _politely() -> list[str]:
    """Scenarios of other languages are being played, with short leases: they come before compilers. Not by
    much, or nothing would be compiled on a machine that is busy."""
    nice = shutil.which("nice")
    return [nice, "-n", "5"] if nice else []


def build_environment() -> dict[str, str]:
    """The environment of builds: where toolchains are, and the system's certificates for npm, which
    otherwise knows its own only. Go without C as in clients/go/build, or it would compile all of it again."""
    certificates = {"NODE_EXTRA_CA_CERTS": str(CERTIFICATES)} if CERTIFICATES.exists() else {}
    return certificates | os.environ | {"PATH": search_path(), "CGO_ENABLED": "0"}


def search_path() -> str:
    """PATH, and where toolchains put themselves without telling anybody."""
    usual = [Path.home() / ".cargo" / "bin", Path("/usr/local/go/bin"), Path.home() / "go" / "bin"]
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, usual)])


LANGUAGES: Final = {
    language.name: language
    for language in (
        Language("python", command=(sys.executable, "-m", "tests.conformance.agents.python_agent")),
        Language("go", ("go",)),
        Language("ts", ("node", "npm"), folder="typescript"),
        Language("java", ("javac", "mvn")),
        Language("rust", ("cargo",), probe=("cargo", "--version")),
    )
}
