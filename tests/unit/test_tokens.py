"""A token that no header can carry is refused where it is read, by the broker and by its clients."""

import pytest

from hyrex.config import read_settings
from hyrex.worker.shared.options import WorkerOptions
from hyrex_broker.__main__ import configure
from hyrex_broker.command import BadConfig

DATABASE = {"HYREX_DATABASE_URL": "postgresql://localhost/hyrex"}
UNUSABLE = ["schlüssel", "a\nb", "a\x00b", "tab\tinside", "\x7f", "a\u2028x"]


@pytest.mark.parametrize("token", UNUSABLE)
def test_a_broker_refuses_a_token_that_cannot_be_sent(token: str) -> None:
    with pytest.raises(BadConfig, match="--token: must have visible ASCII characters only") as caught:
        configure([], DATABASE | {"HYREX_TOKEN": token})
    assert token not in str(caught.value)


@pytest.mark.parametrize("token", UNUSABLE)
def test_a_client_refuses_a_token_that_cannot_be_sent(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "\x00" not in token:
        monkeypatch.setenv("HYREX_TOKEN", token)
        with pytest.raises(ValueError, match="HYREX_TOKEN must have visible ASCII characters only"):
            read_settings()
    with pytest.raises(ValueError, match="--token must have visible ASCII characters only"):
        WorkerOptions(target="app", token=token).resolved()


@pytest.mark.parametrize("ending", ["\n", "\r\n", " \n", "\n\n"])
def test_a_line_end_is_no_part_of_a_token(ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret of Kubernetes often ends with one. It is no part of the token on either side."""
    monkeypatch.setenv("HYREX_TOKEN", f"secret{ending}")
    assert configure([], DATABASE | {"HYREX_TOKEN": f"secret{ending}"}).token == "secret"
    assert read_settings().token == "secret"
    assert WorkerOptions(target="app", token=f"secret{ending}").resolved().token == "secret"
