"""The gate behind scripts/check: independent steps, two at a time; exits 1 if any of them fails."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUF_VERSION = "1.75.0"
BUF_HOME = ROOT / ".cache" / f"buf-{BUF_VERSION}"
CHECKERS = ("kubernetes-validate==1.37.0", "compose-spec==0.2.1")
CHECKERS_HOME = ROOT / ".cache" / "checkers-1.37.0-0.2.1"
SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
RELEASED = ROOT / "proto" / "released.binpb"
NO_HISTORY = 77  # the exit status by which scripts/changelog.py asks to be skipped
PYTHON_PLACES = ["hyrex", "broker", "tests", "examples", "benchmarks", "scripts"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a step ended; `passed` is None where it was skipped."""

    passed: bool | None
    text: str = ""
    code: int = 0


def run(*command: str) -> Verdict:
    """Passes if the command does."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return Verdict(done.returncode == 0, (done.stdout + done.stderr).strip(), done.returncode)


def types() -> Verdict:
    """Strict types in every place that holds Python."""
    places = [place for place in PYTHON_PLACES if any((ROOT / place).rglob("*.py"))]
    return run("mypy", *places)


def generated() -> Verdict:
    """The committed code and descriptor set are what the generator makes of the protos."""
    with tempfile.TemporaryDirectory() as scratch:
        made = run("scripts/gen-proto", scratch)
        descriptors = Path(scratch, "hyrex.binpb")
        sources = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "proto").rglob("*.proto"))
        command = ["-m", "grpc_tools.protoc", "-I", "proto", "--include_imports", *sources]
        described = run(sys.executable, *command, f"--descriptor_set_out={descriptors}")
        if not (made.passed and described.passed):
            return Verdict(False, made.text + described.text)
        fresh = {path.name: path.read_bytes() for path in Path(scratch, "hyrex", "v1").iterdir()}
        fresh["hyrex.binpb"] = descriptors.read_bytes()
    kept = {path.name: path.read_bytes() for path in (ROOT / "hyrex" / "v1").glob("*_pb2*")}
    kept["hyrex.binpb"] = (ROOT / "proto" / "hyrex.binpb").read_bytes()
    stale = sorted(name for name in fresh.keys() | kept.keys() if fresh.get(name) != kept.get(name))
    remedy = "run scripts/gen-proto and scripts/proto-descriptors; stale: "
    return Verdict(not stale, remedy + ", ".join(stale) if stale else "")


def buf(*arguments: str) -> Verdict:
    """Run buf, installed once into .cache; skipped by name where it cannot be had, except in CI."""
    program = BUF_HOME / "node_modules" / ".bin" / "buf"
    if not program.exists():
        installed = install_buf()
        if not installed.passed:
            return Verdict(False if os.environ.get("CI") else None, f"no buf: {installed.text}")
    return run(str(program), *arguments)


def install_buf() -> Verdict:
    """Install buf from npm; node has to be told of the system's certificates."""
    if shutil.which("npm") is None:
        return Verdict(False, "npm is not installed")
    if SYSTEM_CERTIFICATES.exists():
        os.environ.setdefault("NODE_EXTRA_CA_CERTS", str(SYSTEM_CERTIFICATES))
    place = ["--no-save", "--prefix", str(BUF_HOME)]
    return run("npm", "install", "--no-fund", "--fetch-retries=1", *place, f"@bufbuild/buf@{BUF_VERSION}")


def protos() -> Verdict:
    """The protos obey buf's rules and break no released client."""
    lint = buf("lint")
    if lint.passed is not True:
        return lint
    if not RELEASED.exists():
        return Verdict(True, "nothing released yet to be compatible with (proto/released.binpb)")
    return buf("breaking", "--against", str(RELEASED))


def manifests() -> Verdict:
    """The files of deploy/ fit the schemas of Kubernetes and Compose; skipped by name where these cannot be
    had."""
    if not CHECKERS_HOME.exists():
        part = CHECKERS_HOME.with_suffix(f".{os.getpid()}")
        pip = ["uv", "pip"] if shutil.which("uv") else [sys.executable, "-m", "pip"]
        installed = run(*pip, "install", "--quiet", "--target", str(part), *CHECKERS)
        if not installed.passed:
            return Verdict(None, f"no {' and '.join(CHECKERS)}: {installed.text}")
        part.rename(CHECKERS_HOME)
    return run("env", f"PYTHONPATH={CHECKERS_HOME}", sys.executable, "scripts/manifests.py")


def docs() -> Verdict:
    """The documentation builds as a site, and every page has its place in it."""
    os.environ["NO_MKDOCS_2_WARNING"] = "1"
    # Not --quiet: what it does not print, --strict does not count.
    return run("mkdocs", "build", "--strict")


def lint() -> Verdict:
    """The rules for code, and the width of pages."""
    steps = (run("ruff", "check", "--output-format=concise"), run(sys.executable, "scripts/pages.py"))
    texts = [step.text for step in steps if not step.passed]
    return Verdict(not texts, "\n".join(texts))


def changelog() -> Verdict:
    """Whoever operates or uses Hyrex reads of what changed; skipped where git's history is not there."""
    found = run(sys.executable, "scripts/changelog.py")
    return Verdict(None, found.text) if found.code == NO_HISTORY else found


STEPS: dict[str, Callable[[], Verdict]] = {
    "types": types,
    "protos": protos,
    "generated": generated,
    "imports": lambda: run("lint-imports", "--no-logo"),
    "format": lambda: run("ruff", "format", "--check"),
    "lint": lint,
    "docs": docs,
    "manifests": manifests,
    "changelog": changelog,
    "sizes": lambda: run(sys.executable, "scripts/sizes.py"),
}
SPEAKS_WHEN_PASSED = {"sizes", "protos"}


def report(name: str) -> bool:
    """Run a step and print its result. Return True if it passed."""
    began = time.monotonic()
    verdict = STEPS[name]()
    word = {True: "passed", False: "FAILED", None: "skipped"}[verdict.passed]
    lines = [f"{name:10} {word} ({time.monotonic() - began:.1f} s)"]
    if verdict.text and (not verdict.passed or name in SPEAKS_WHEN_PASSED):
        lines += [f"    {line}" for line in verdict.text.splitlines()]
    print("\n".join(lines), flush=True)
    return verdict.passed is not False


def main() -> int:
    """Run the steps named on the command line, or all."""
    names = sys.argv[1:] or list(STEPS)
    unknown = [name for name in names if name not in STEPS]
    if unknown:
        print(f"no step {unknown[0]!r}; there are: {', '.join(STEPS)}", file=sys.stderr)
        return 2
    with ThreadPoolExecutor(max_workers=2) as pool:
        return 0 if all(list(pool.map(report, names))) else 1


if __name__ == "__main__":
    sys.exit(main())
