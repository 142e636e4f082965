"""The program behind scripts/gen-clients: fetches the pinned plugins once into .cache, then runs protoc.

go, ts and rust are made by plugins of their ecosystems; java by protoc and grpc-java's plugin from
Maven; cpp, csharp, objc, php and ruby messages by the same protoc. Languages can be had alone:
nothing is fetched for one that is not asked for.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PROTO: Final = ROOT / "proto"
PLUGINS: Final = ROOT / ".cache" / "protoc-plugins"
VERSIONS: Final = {
    "protoc-gen-go": "v1.36.10",
    "protoc-gen-go-grpc": "v1.5.1",
    "ts-proto": "2.7.7",
    "protoc-gen-prost": "0.5.0",
    "protoc-gen-tonic": "0.5.0",
    "protoc": "4.31.1",
    "protoc-gen-grpc-java": "1.75.0",
}
TS_OPTIONS: Final = (
    "outputServices=grpc-js,forceLong=bigint,oneof=unions-value,useExactTypes=false,"
    "esModuleInterop=true,importSuffix=.js,env=node,removeEnumPrefix=true,unrecognizedEnum=true"
)
BUILT_IN: Final = ("cpp", "csharp", "objc", "php", "ruby", "python", "pyi", "kotlin")


class Missing(Exception):
    """A toolchain that this language needs is not on this machine."""


def run(*command: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> None:
    """Run a command; its output is shown when it fails. Raises: SystemExit."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=cwd, env=os.environ | (env or {})
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def need(program: str) -> str:
    """Where a program is. Raises: Missing."""
    found = shutil.which(program)
    if found is None:
        raise Missing(program)
    return found


def home(name: str) -> Path:
    """Where a pinned plugin is kept."""
    return PLUGINS / f"{name}-{VERSIONS[name]}"


def sources() -> list[str]:
    """Every proto of the contract."""
    return sorted(str(path) for path in PROTO.rglob("*.proto"))


def protoc(out: Path, *arguments: str, compiler: tuple[str, ...] = ()) -> None:
    """Run protoc (the one of grpcio-tools unless told otherwise) over the contract."""
    out.mkdir(parents=True, exist_ok=True)
    well_known = files("grpc_tools") / "_proto"
    includes = [f"-I{PROTO}", f"-I{well_known}"]
    run(*(compiler or (sys.executable, "-m", "grpc_tools.protoc")), *includes, *arguments, *sources())


def go(out: Path) -> None:
    """Messages by protoc-gen-go, services by protoc-gen-go-grpc."""
    plugins = []
    for name, module in (
        ("protoc-gen-go", "google.golang.org/protobuf/cmd/protoc-gen-go"),
        ("protoc-gen-go-grpc", "google.golang.org/grpc/cmd/protoc-gen-go-grpc"),
    ):
        program = home(name) / name
        if not program.exists():
            # Without C as clients/go/build: they share what is compiled.
            env = {"GOBIN": str(home(name)), "CGO_ENABLED": "0"}
            run(need("go"), "install", f"{module}@{VERSIONS[name]}", env=env)
        plugins.append(f"--plugin={name}={program}")
    module_option = "module=hyrex.dev/gen"
    protoc(
        out, *plugins, f"--go_out={out}", f"--go_opt={module_option}",
        f"--go-grpc_out={out}", f"--go-grpc_opt={module_option}",
    )  # fmt: skip


def ts(out: Path) -> None:
    """Types and grpc-js services by ts-proto."""
    place = home("ts-proto")
    program = place / "node_modules" / ".bin" / "protoc-gen-ts_proto"
    if not program.exists():
        prefix = ["--no-save", "--no-fund", "--no-audit", "--prefix", str(place)]
        run(need("npm"), "install", *prefix, f"ts-proto@{VERSIONS['ts-proto']}")
    need("node")
    protoc(
        out,
        f"--plugin=protoc-gen-ts_proto={program}",
        f"--ts_proto_out={out}",
        f"--ts_proto_opt={TS_OPTIONS}",
    )


def rust(out: Path) -> None:
    """Messages by protoc-gen-prost, services by protoc-gen-tonic."""
    plugins = []
    with tempfile.TemporaryDirectory() as shared:  # both need mostly the same, unoptimised: compiled once
        for name in ("protoc-gen-prost", "protoc-gen-tonic"):
            program = home(name) / "bin" / name
            if not program.exists():
                options = ["--quiet", "--debug", "--root", str(home(name)), "--target-dir", shared]
                run(need("cargo"), "install", *options, f"{name}@{VERSIONS[name]}")
            plugins.append(f"--plugin={name}={program}")
    protoc(out, *plugins, f"--prost_out={out}", f"--tonic_out={out}", "--tonic_opt=no_server")


def _from_maven(name: str, group: str) -> Path:
    """An executable that Maven distributes for this machine. Raises: Missing."""
    system = {"Linux": "linux", "Darwin": "osx", "Windows": "windows"}[platform.system()]
    machine = {"x86_64": "x86_64", "AMD64": "x86_64", "aarch64": "aarch_64", "arm64": "aarch_64"}
    place = home(name)
    found = list(place.glob(f"{name}-*.exe"))
    if not found:
        artifact = f"{group}:{name}:{VERSIONS[name]}:exe:{system}-{machine[platform.machine()]}"
        goal = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
        run(need("mvn"), "-q", goal, f"-Dartifact={artifact}", f"-DoutputDirectory={place}")
        found = list(place.glob(f"{name}-*.exe"))
    found[0].chmod(0o755)
    return found[0]


def java(out: Path) -> None:
    """Messages by protoc itself, services by protoc-gen-grpc-java."""
    compiler = str(_from_maven("protoc", "com.google.protobuf"))
    plugin = _from_maven("protoc-gen-grpc-java", "io.grpc")
    options = [f"--plugin=protoc-gen-grpc-java={plugin}", f"--grpc-java_out={out}", f"--java_out={out}"]
    protoc(out, *options, "--grpc-java_opt=@generated=omit", compiler=(compiler,))


def built_in(language: str) -> Callable[[Path], None]:
    """Messages only, by protoc itself."""

    def generate(out: Path) -> None:
        compiler = str(_from_maven("protoc", "com.google.protobuf"))
        protoc(out, f"--{language}_out={out}", compiler=(compiler,))

    return generate


LANGUAGES: Final[dict[str, Callable[[Path], None]]] = {
    "go": go,
    "ts": ts,
    "java": java,
    "rust": rust,
} | {language: built_in(language) for language in BUILT_IN}


def main() -> int:
    """Generate; 1 where a language that was asked for by name could not be made."""
    parser = argparse.ArgumentParser(prog="gen-clients", description=__doc__.splitlines()[0])
    parser.add_argument("--lang", default="", help=f"of {', '.join(LANGUAGES)}; default go,ts,java,rust")
    parser.add_argument(
        "--out", default="gen", help="a folder for each language below it; one language: this"
    )
    arguments = parser.parse_args()
    asked = [name for name in arguments.lang.split(",") if name]
    if unknown := sorted(set(asked) - set(LANGUAGES)):
        parser.error(f"no language {unknown[0]!r}; there are {', '.join(LANGUAGES)}")
    out = Path(os.environ.get("HYREX_CALLED_FROM", "."), arguments.out).resolve()
    status = 0
    for name in asked or ["go", "ts", "java", "rust"]:
        target = out if len(asked) == 1 else out / name
        try:
            LANGUAGES[name](target)
        except Missing as missing:
            print(f"{name}: skipped, {missing} is not installed on this machine", file=sys.stderr)
            status = 1 if asked else status
        else:
            print(f"{name}: {target}")
    return status


if __name__ == "__main__":
    sys.exit(main())
