"""Failures by their kind, and the filter that fits all of a kind and nothing else."""

import pytest

from hyrex.filterline import parse
from hyrex.runtime import patterns
from hyrex.transport.failures import failures_in, kinds_of, line_of_kind, why_no_line
from hyrex.transport.filters import task_filter
from hyrex.v1 import task_pb2, task_service_pb2

FAILED = task_pb2.TASK_STATUS_FAILED
TIMED_OUT = task_pb2.TASK_STATUS_TIMED_OUT


def failed(
    name: str, error: str | None, status: "task_pb2.TaskStatus.ValueType" = FAILED, place: str = ""
) -> task_pb2.Task:
    """A task that ended so; without an error where `error` is None."""
    run = task_pb2.TaskRun(reason="no answer")
    if error is not None:
        run.error.CopyFrom(task_pb2.RunError(type=error, message="said", place=place))
    return task_pb2.Task(name=name, status=status, runs=[run])


@pytest.mark.parametrize(
    ("task", "why"),
    [
        (failed("send", "x" * 256), "too long"),
        (failed("send", None), "no type"),
        (failed("send", ""), "no type"),
    ],
)
def test_a_kind_that_no_filter_fits_alone_has_none_and_says_why(task: task_pb2.Task, why: str) -> None:
    assert why in why_no_line(task)
    assert line_of_kind(task) == ""
    (kind,) = kinds_of([task])
    assert kind.line == ""
    assert why in kind.why_no_line


@pytest.mark.parametrize("text", ["*", "send*", "\\", "\\*", "a b\\\\*", 'say "*"', "***** six stars *"])
def test_a_kind_with_a_star_is_asked_for_alone(text: str) -> None:
    wanted = task_filter(parse(line_of_kind(failed(text, text))))
    for asked in (wanted.names, wanted.error_types):
        fits = patterns.compile_escaped(asked)
        assert fits(text)
        assert not fits(text.replace("*", "x") + "y")
        assert not fits(text + "*")


def test_what_timed_out_or_was_lost_is_one_kind_with_and_without_a_type_of_error() -> None:
    tasks = [
        failed("send", "TaskTimeout", TIMED_OUT),
        failed("send", None, TIMED_OUT),
        failed("send", "Boom"),
    ]
    counted = {kind.line: kind.count for kind in kinds_of(tasks)}
    assert counted == {
        "name:send status:timed_out dead:yes newer:1d": 2,
        "name:send status:failed dead:yes error:Boom newer:1d": 1,
    }


def test_errors_of_one_type_from_two_places_are_two_kinds_and_each_is_asked_for_alone() -> None:
    mail, post = "shop.mail:41 in send", "shop.post:7 in send"
    found = kinds_of([failed("send", "Boom", place=place) for place in (mail, mail, post)])
    assert {kind.place: kind.count for kind in found} == {mail: 2, post: 1}
    for kind in found:
        wanted = task_filter(parse(kind.line))
        fits = patterns.compile_escaped(wanted.error_places)
        assert [place for place in (mail, post) if fits(place)] == [kind.place]


def test_a_kind_whose_place_is_not_known_is_not_asked_for_beside_those_whose_place_is() -> None:
    """A filter without a place would fit these too."""
    unknown, known = failed("send", "Boom"), failed("send", "Boom", place="shop.mail:41 in send")
    lines = {kind.place: (kind.line, kind.why_no_line) for kind in kinds_of([unknown, known])}
    assert lines[""] == ("", "where its error was raised is not known, as it is of others")
    assert lines["shop.mail:41 in send"][0]
    (alone,) = kinds_of([unknown])
    assert alone.line


def test_the_kind_of_a_task_is_not_bound_to_the_last_day() -> None:
    wanted = task_filter(parse(line_of_kind(failed("send", "Boom"))))
    assert not wanted.HasField("younger_than")
    assert list(wanted.error_types) == ["Boom"]


def test_the_kind_of_a_task_leaves_out_what_was_dismissed_as_the_list_does() -> None:
    assert task_filter(parse(line_of_kind(failed("send", "Boom")))).dead


def test_an_empty_page_that_has_a_next_one_says_how_far_it_looked() -> None:
    answer = task_service_pb2.ListTasksResponse(next_page_token="on")
    answer.looked_back_to.FromSeconds(1_000)
    found = failures_in(answer)
    assert (found.kinds, found.looked_at, found.more) == ([], 0, True)
    assert found.looked_back_to is not None
    assert found.looked_back_to.timestamp() == 1_000
