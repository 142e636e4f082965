"""Parts of contrib whose libraries are not installed say which package brings them."""

import importlib
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "library", "package"),
    [
        ("encrypted", "cryptography", r"hyrex\[encryption\]"),
        ("stored", "fsspec", r"hyrex\[storage\]"),
        ("sentry", "sentry_sdk", "sentry-sdk"),
        ("structlog", "structlog", "structlog"),
        ("django_connections", "asgiref", "django"),
        ("django", "django", "django"),
    ],
)
def test_a_missing_library_is_named_with_its_package(
    module: str, library: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(sys.modules):
        if name == f"hyrex.contrib.{module}" or name.split(".")[0] == library:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ModuleNotFoundError, match=rf"{library}.*pip install '{package}"):
        importlib.import_module(f"hyrex.contrib.{module}")
