"""The public face is honest: every name that is promised is there, and says where it lives."""

import hyrex


def test_every_public_name_resolves() -> None:
    missing = [name for name in hyrex.__all__ if getattr(hyrex, name, None) is None]
    assert not missing


def test_public_names_are_listed_once_and_shown_by_dir() -> None:
    assert len(set(hyrex.__all__)) == len(hyrex.__all__)
    assert set(hyrex.__all__) <= set(dir(hyrex))


def test_public_names_have_docstrings() -> None:
    bare = [name for name in hyrex.__all__ if not getattr(getattr(hyrex, name), "__doc__", None)]
    assert not bare
