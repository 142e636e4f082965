"""Public names are honest."""

import hyrex
from hyrex import errors


def test_every_public_name_exists() -> None:
    for name in hyrex.__all__:
        assert getattr(hyrex, name) is not None
    assert set(dir(hyrex)) == set(hyrex.__all__)
    assert not hasattr(hyrex, "nothing")


def test_every_error_is_drawn_in_the_tree() -> None:
    drawn = errors.__doc__ or ""
    for name in errors.__all__:
        assert f" {name} " in drawn.replace("\n", " \n")
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type)
        and issubclass(value, BaseException)
        and value.__module__ == errors.__name__
    }
    assert defined == set(errors.__all__)
