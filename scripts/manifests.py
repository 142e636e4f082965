"""Holds deploy/ against the schemas of Kubernetes and of Compose; the gate installs their checkers.

Exits 1 if an object has a field that is unknown, missing or of a wrong type.
"""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final

yaml: Final[Any] = import_module("yaml")
DEPLOY: Final = Path(__file__).resolve().parent.parent / "deploy"
KUBERNETES: Final = "1.34"
"""`lifecycle.preStop.sleep` needs 1.30."""
_NO_OBJECTS: Final = {"Kustomization"}


def main() -> int:
    """Check all files; print what is wrong."""
    found = [*_kubernetes(), *_compose()]
    print("\n".join(found))
    return 1 if found else 0


def _kubernetes() -> Iterator[str]:
    checker: Any = import_module("kubernetes_validate")
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if document["kind"] in _NO_OBJECTS:
                continue
            try:
                checker.validate(document, KUBERNETES, strict=True)
            except checker.ValidationError as error:
                yield f"{path.name}, {document['kind']}: {'.'.join(map(str, error.path))}: {error.message}"


def _compose() -> Iterator[str]:
    merged = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    try:
        import_module("compose_spec").PyCompose.from_yaml(yaml.safe_dump(merged))
    except Exception as error:
        yield f"compose.yaml: {error}"


if __name__ == "__main__":
    sys.exit(main())
