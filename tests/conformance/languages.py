"""The languages of the suite: what each needs on a machine, how its agent is built and started."""

import asyncio
import os
import shutil
import subprocess
import sys
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
        process = await asyncio.create_subprocess_exec(
            *_politely(),
            str(self.home / "build"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=build_environment(),
        )
        try:
            async with asyncio.timeout(BUILD_WITHIN_S):
                output, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            raise BuildFailed(f"no end after {BUILD_WITHIN_S:.0f} s") from None
        if process.returncode != 0:
            raise BuildFailed(output.decode(errors="replace")[-6000:])


def _politely() -> list[str]:
    """Compilers take what scenarios leave: those of other languages are being played, with short leases."""
    nice = shutil.which("nice")
    return [nice, "-n", "19"] if nice else []


def build_environment() -> dict[str, str]:
    """The environment of builds: where toolchains are, and the system's certificates for npm, which
    otherwise knows its own only."""
    certificates = {"NODE_EXTRA_CA_CERTS": str(CERTIFICATES)} if CERTIFICATES.exists() else {}
    return certificates | os.environ | {"PATH": search_path()}


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
