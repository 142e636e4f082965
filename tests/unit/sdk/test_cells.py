"""HYREX_CELLS: which queue is whose, and what is refused with the pattern and the remedy."""

import pytest

from hyrex.cells import parse_cells, trusted_cells

VIDEO = "grpc://video:1"
REST = "grpc://rest:2"


def test_the_first_pattern_that_matches_a_queue_names_its_cell() -> None:
    cells = parse_cells(f"video-hd={REST}; video*={VIDEO};\n *={REST};")
    found = {queue: cells.of(queue).url for queue in ("video", "video-hd", "video-hd2", "email", "*")}
    assert found == {"video": VIDEO, "video-hd": REST, "video-hd2": VIDEO, "email": REST, "*": REST}


def test_patterns_of_the_same_brokers_are_one_cell() -> None:
    cells = parse_cells("a=grpc://x:1,grpc://y:1;b=grpc://z:1;*=grpc://y:1,grpc://x:1")
    assert [cell.patterns for cell in cells.cells] == [("a", "*"), ("b",)]


def test_a_queue_may_have_an_equals_sign() -> None:
    assert parse_cells(f"a=b={VIDEO};*={REST}").of("a=b").url == VIDEO


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"video*={VIDEO}", "no cell for queues that no pattern matches; end it with '*=URL'"),
        (";", "no cell for queues that no pattern matches"),
        (f"a={VIDEO};a={VIDEO};*={REST}", "pattern 'a' is there twice; keep one"),
        (f"*={REST};video={VIDEO}", "'video' is never reached, since '*' stands before it"),
        (f"v*={REST};*o={VIDEO};v*eo*={VIDEO};*={REST}", "'v*eo*' is never reached, since 'v*'"),
        (f"video*;*={REST}", "'video*' is not a pattern and a URL; it has the form 'video*=grpc://"),
        (f"={VIDEO};*={REST}", "is not a pattern and a URL"),
        (f"video*=http://x;*={REST}", "pattern 'video*': broker URL 'http://x' is not like grpc://"),
        (f"a=grpc://x:1,grpc://y:1;*={REST},grpc://y:1", "broker y:1 is in the cell of 'a' and with other"),
        (f"a*b*c*d*e*={VIDEO};*={REST}", "pattern 'a*b*c*d*e*' has more than 4 stars"),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy(text: str, said: str) -> None:
    with pytest.raises(ValueError, match="HYREX_CELLS") as caught:
        parse_cells(text)
    assert said in str(caught.value)


def test_a_token_goes_to_no_cell_without_encryption() -> None:
    text = f"video=grpcs://video:1;*={REST}"
    assert trusted_cells(text, None).of("x").url == REST
    with pytest.raises(
        ValueError, match=r"pattern '\*': the token would cross the network unencrypted to grpc://rest:2"
    ):
        trusted_cells(text, "secret")


@pytest.mark.parametrize(
    ("patterns", "cells"),
    [
        (["video"], ["video*"]),
        (["video*"], ["video*"]),
        (["vid*"], ["video*", "*"]),
        (["email", "mail"], ["*"]),
        (["email*"], ["*"]),
        (["*"], ["video*", "a*z", "*"]),
        (["*z"], ["video*", "a*z", "*"]),
        (["ab*y"], ["*"]),
        (["video", "email"], ["video*", "*"]),
    ],
)
def test_the_cells_of_a_worker_are_those_of_the_queues_it_may_serve(
    patterns: list[str], cells: list[str]
) -> None:
    found = parse_cells(f"video*={VIDEO};a*z=grpc://third:3;*={REST}").serving(patterns)
    assert [cell.name for cell in found] == cells
