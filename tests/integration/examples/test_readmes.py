"""The code in the clients' READMEs compiles."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.conformance.languages import LANGUAGES, Language, build_environment
from tests.support.pages import fenced

GO: Final = """package main

import (
	"context"

	"hyrex.dev/hyrex"
)

func main() {
	ctx, token := context.Background(), ""
%s
	_, _ = sum, err
}
"""
TYPESCRIPT: Final = """import { Client, Worker, newTask, resultOf, type Run } from "../src/index.js";
const token = "";
%s
export { sum };
"""
JAVA: Final = """import dev.hyrex.*;
import java.time.Duration;
import java.util.List;

class Readme {
    static void run() throws Exception {
%s
    }
}
"""
RUST: Final = """use std::time::Duration;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
%s
    let _ = task;
    Ok(())
}
"""
TSCONFIG: Final = """{
  "extends": "../tsconfig.json",
  "compilerOptions": { "rootDir": "..", "noEmit": true, "incremental": false },
  "include": ["readme.ts"]
}
"""


def compiled(home: Path, *command: str) -> None:
    """Run a compiler in the client's folder."""
    done = subprocess.run(
        command, cwd=home, env=build_environment(), capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr


def go(home: Path, code: str) -> None:
    """A program of one file."""
    place = home / ".cache" / "readme.go"
    place.write_text(GO % code)
    compiled(home, "go", "build", "-o", os.devnull, str(place.relative_to(home)))


def typescript(home: Path, code: str) -> None:
    """A module, checked as the client's own are."""
    (home / ".cache" / "readme.ts").write_text(TYPESCRIPT % code)
    (home / ".cache" / "tsconfig.json").write_text(TSCONFIG)
    compiled(home, "node_modules/.bin/tsc", "-p", ".cache/tsconfig.json")


def java(home: Path, code: str) -> None:
    """A class with the code in a method."""
    place = home / "target" / "readme" / "Readme.java"
    place.parent.mkdir(exist_ok=True)
    place.write_text(JAVA % code)
    path = os.pathsep.join(["target/classes", "target/lib/*"])
    compiled(home, "javac", "-Xlint:all,-processing", "-cp", path, "-d", str(place.parent), str(place))


def rust(home: Path, code: str) -> None:
    """An example, which is there while it is checked only."""
    place = home / "examples" / "readme.rs"
    place.write_text(RUST % code)
    try:
        compiled(home, "cargo", "build", "--quiet", "--example", "readme")
    finally:
        place.unlink()


COMPILERS: Final[dict[str, Callable[[Path, str], None]]] = {
    "go": go, "ts": typescript, "java": java, "rust": rust
}  # fmt: skip
FENCES: Final = {"ts": "typescript"}


def test_every_client_is_tried_here() -> None:
    clients = {language.home for language in LANGUAGES.values() if not language.command}
    assert {LANGUAGES[name].home for name in COMPILERS} == clients


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", COMPILERS)
async def test_code_of_the_readme_compiles(name: str) -> None:
    language: Language = LANGUAGES[name]
    if language.absence:
        pytest.skip(f"{name}: {language.absence}")
    await language.build()
    blocks = fenced((language.home / "README.md").read_text(encoding="utf-8"), FENCES.get(name, name))
    assert blocks
    COMPILERS[name](language.home, "\n".join(blocks))
