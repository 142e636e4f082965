"""Whatever a child of `hyrex dev` writes becomes lines, in bounded memory."""

import asyncio

import pytest

from hyrex.cli.devserver.lines import LONGEST_LINE_BYTES, lines_of


def given(*chunks: bytes) -> list[str]:
    """The lines of a child that writes these chunks."""

    class Source:
        def __init__(self) -> None:
            self.left = list(chunks)

        async def read(self, n: int, /) -> bytes:
            return self.left.pop(0) if self.left else b""

    async def collect() -> list[str]:
        return [line async for line in lines_of(Source())]

    return asyncio.run(collect())


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([b"one\ntw", b"o\n"], ["one", "two"]),
        ([b"no end"], ["no end"]),
        ([b"a\r", b"\nb\r\n"], ["a", "b"]),
        ([b"1%\r2%\r", b"3%\n"], ["3%"]),
        ([b"1%\r2%\r"], ["2%"]),
        ([b"\n\nx"], ["", "", "x"]),
        ([b"\xff\xfe\n"], ["\N{REPLACEMENT CHARACTER}" * 2]),
        ([], []),
    ],
)
def test_lines_are_what_a_terminal_would_show(chunks: list[bytes], lines: list[str]) -> None:
    assert given(*chunks) == lines


def test_a_line_without_end_is_cut_and_says_so() -> None:
    (line,) = given(*[b"x" * 65536] * 40, b"\n")
    assert line == f"{'x' * LONGEST_LINE_BYTES} ... ({65536 * 40 - LONGEST_LINE_BYTES} more bytes)"


def test_a_long_line_that_is_written_over_shows_the_last_writing() -> None:
    assert given(b"x" * 50_000, b"\rdone\n") == ["done"]
