"""Named statements, and the parts that several of a file share."""

import re
from collections import Counter
from importlib.resources import files
from typing import Final

import pytest

from hyrex_broker.storage.statements import load

AGGREGATES: Final = sorted(
    path.name.removesuffix(".sql") for path in files("hyrex_broker.storage").joinpath("sql").iterdir()
)


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_statements_are_whole_and_a_part_is_of_more_than_one(aggregate: str) -> None:
    text = files("hyrex_broker.storage").joinpath("sql", f"{aggregate}.sql").read_text()
    used = Counter(re.findall(r"-- use: (\w+)", text))
    parts = re.findall(r"^-- part: (\w+)$", text, re.MULTILINE)
    assert sorted(parts) == sorted(used)
    assert all(count > 1 for count in used.values())
    assert not any("-- use:" in statement for statement in load(aggregate).values())
