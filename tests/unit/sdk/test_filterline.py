"""The filter line: every word that it knows, and a remedy for every word that it does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyrex.errors import HyrexError
from hyrex.filterline import STATUSES, FilterLine, FilterLineError, parse
from hyrex.runtime import patterns
from hyrex.transport.filters import filter_line, task_filter
from hyrex.v1 import task_pb2, task_service_pb2

ID = "0198a0c4-0000-7000-8000-00000000000a"


def test_a_line_names_everything_that_can_be_asked() -> None:
    line = (
        f"queue:mail name:send* status:failed dead:yes label.tenant:7 error:Timeout older:1h newer:2w"
        f" workflow:yes parent:{ID} root:{ID.upper()} queue:post"
    )
    assert parse(line) == FilterLine(
        queues=("mail", "post"),
        names=("send*",),
        statuses=("failed",),
        dead=True,
        workflows=True,
        labels={"tenant": "7"},
        error_types=("Timeout",),
        parent=ID,
        root=ID,
        older_s=3600,
        younger_s=1_209_600,
    )


@pytest.mark.parametrize("line", ["", "   ", "\t\n"])
def test_an_empty_line_asks_for_nothing(line: str) -> None:
    assert parse(line) == FilterLine()
    assert not parse(line)
    assert parse("status:lost")


def test_quotation_marks_keep_spaces_colons_and_themselves() -> None:
    parsed = parse('name:"send mail" error:"a\\"b\\\\c" label."the key":"a:b" label.url:http://x/y?z=1')
    assert parsed.names == ("send mail",)
    assert parsed.error_types == ('a"b\\\\c',)
    assert parsed.labels == {"the key": "a:b", "url": "http://x/y?z=1"}


@pytest.mark.parametrize(
    ("value", "pattern", "label"),
    [
        ("a*", "a*", "a*"),
        ('"a *"', "a *", "a *"),
        (r'"a\*"', r"a\*", "a*"),
        (r'a"\*"*', r"a\**", "a**"),
        (r'"\\*"', r"\\*", r"\*"),
    ],
)
def test_a_star_stands_for_any_text_unless_a_backslash_takes_it_as_it_is(
    value: str, pattern: str, label: str
) -> None:
    parsed = parse(f"name:{value} label.key:{value}")
    assert (parsed.names, parsed.labels) == ((pattern,), {"key": label})


@pytest.mark.parametrize(
    ("line", "word", "remedy"),
    [
        ("queue:a send", "send", "name:send"),
        ("failed", "failed", "status:failed"),
        (ID, ID, f"parent:{ID}"),
        ("tenant:7", "tenant:7", "label.KEY:"),
        ("queue: mail", "queue:", "without a space"),
        ("status:broken", "status:broken", "failed"),
        ("dead:no", "dead:no", "dead:yes"),
        ("workflow:no", "workflow:no", "workflow:yes"),
        ("older:yesterday", "older:yesterday", "1h"),
        ("older:0s", "older:0s", "1h"),
        ("older:1h older:2h", "older:2h", "once"),
        ("parent:7", "parent:7", "UUID"),
        ("label.:7", "label.:7", "label.KEY:VALUE"),
        ("label.a:1 label.a:2", "label.a:2", "1 and 2"),
        ("name:*a*b*c*d*", "name:*a*b*c*d*", "4 stars"),
        ('name:"send', 'name:"send', 'end it with "'),
        ("name:a\\b", "name:a\\", "quotation marks"),
        ("name:\udcff", "name:\udcff", "UTF-8"),
        (f"queue:{'x' * 256}", f"queue:{'x' * 256}", "255"),
    ],
)
def test_a_word_that_means_nothing_is_named_with_a_remedy(line: str, word: str, remedy: str) -> None:
    with pytest.raises(FilterLineError) as refused:
        parse(line)
    assert refused.value.word == word
    assert remedy in refused.value.remedy
    assert isinstance(refused.value, HyrexError)


_text = st.text(min_size=1, max_size=12).filter(lambda text: "\0" not in text and text.isprintable())
_pattern = st.lists(_text, min_size=1, max_size=4).map(lambda parts: "*".join(map(patterns.escaped, parts)))
_lines = st.builds(
    FilterLine,
    queues=st.lists(_pattern, max_size=3, unique=True).map(tuple),
    names=st.lists(_pattern, max_size=3, unique=True).map(tuple),
    statuses=st.lists(st.sampled_from(STATUSES), max_size=3, unique=True).map(tuple),
    dead=st.booleans(),
    workflows=st.booleans(),
    labels=st.dictionaries(_text, st.text(max_size=8).filter(lambda text: "\0" not in text), max_size=3),
    error_types=st.lists(_pattern, max_size=3, unique=True).map(tuple),
    parent=st.sampled_from(["", ID]),
    root=st.sampled_from(["", ID]),
    older_s=st.none() | st.integers(1, 10**6),
    younger_s=st.none() | st.integers(1, 10**6),
)


@given(_lines)
def test_the_text_of_a_filter_is_read_as_the_same_filter(line: FilterLine) -> None:
    assert parse(line.text()) == line


@given(st.text())
def test_any_text_is_a_filter_or_is_refused_with_a_remedy(text: str) -> None:
    refused = None
    try:
        parsed = parse(text)
    except FilterLineError as error:
        refused = error
    if refused is not None:
        assert refused.word
        assert refused.remedy
    else:
        assert parse(parsed.text()) == parsed


def test_the_wire_says_what_the_line_says() -> None:
    line = parse(f"queue:mail name:send* status:timed_out label.a:1 error:E parent:{ID} root:{ID} older:1h")
    wire = task_filter(line)
    assert (list(wire.queues), list(wire.names), dict(wire.labels)) == (["mail"], ["send*"], {"a": "1"})
    assert list(wire.statuses) == [task_pb2.TASK_STATUS_TIMED_OUT]
    assert (list(wire.error_types), wire.parent_id, wire.root_id) == (["E"], ID, ID)
    assert wire.older_than.seconds == 3600
    assert not wire.HasField("younger_than")


@given(_lines)
def test_a_filter_of_the_wire_is_shown_as_the_line_that_made_it(line: FilterLine) -> None:
    assert filter_line(task_filter(line)) == line


def test_a_status_of_a_later_version_is_shown_as_its_number() -> None:
    later = task_pb2.TaskStatus.ValueType(77)
    assert filter_line(task_service_pb2.TaskFilter(statuses=[later])).statuses == ("77",)
