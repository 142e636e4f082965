"""Terms are checked once for all tasks that share them, and the digest sees every difference."""

import pytest
from google.protobuf.duration_pb2 import Duration

from hyrex.v1 import task_pb2
from hyrex_broker.domain.errors import InvalidField
from hyrex_broker.service import terms
from hyrex_broker.service.terms import KnownTerms, own_seed


def wire(**changes: object) -> task_pb2.NewTask:
    return task_pb2.NewTask(**({"name": "greet", "queue": "default"} | changes))  # type: ignore[arg-type]


def test_the_same_terms_are_the_same_object() -> None:
    known = KnownTerms()
    first = known.of(wire(priority=7, timeout=Duration(seconds=3)))
    assert known.of(wire(priority=7, timeout=Duration(seconds=3))) is first
    assert (first.terms.rank, first.terms.timeout_ms) == (3, 3000)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"queue": "other"},
        {"priority": 6},
        {"max_retries": 1},
        {"timeout": Duration(seconds=1)},
        {"retry_delay": Duration(seconds=1)},
        {"labels": {"a": "b"}},
    ],
)
def test_any_other_term_gives_another_seed(changes: dict[str, object]) -> None:
    known = KnownTerms()
    assert known.of(wire()).seed != known.of(wire(**changes)).seed


@pytest.mark.parametrize("own", [({"a": "b"}, None), ({"a": "c"}, None), (None, "k"), ({"a": "b"}, "k")])
def test_headers_and_keys_give_other_seeds(own: tuple[dict[str, str] | None, str | None]) -> None:
    known = KnownTerms().of(wire())
    others = [({}, ""), ({"a": "b"}, None), ({"a": "c"}, None), ({}, "k"), ({"a": "b"}, "k")]
    assert [own_seed(known.seed, *other) for other in others].count(own_seed(known.seed, *own)) == 1


@pytest.mark.parametrize("number", [50, 99])
def test_what_a_later_version_may_mean_is_refused(number: int) -> None:
    unknown = task_pb2.NewTask.FromString(bytes([number << 3 & 0x7F | 0x80, number >> 4, 1]))
    unknown.MergeFrom(wire())
    with pytest.raises(InvalidField, match=f"field {number}"):
        KnownTerms().of(unknown)


def test_fields_from_a_hundred_on_are_nobodys() -> None:
    unknown = task_pb2.NewTask.FromString(bytes([100 << 3 & 0x7F | 0x80, 100 >> 4, 1]))
    unknown.MergeFrom(wire())
    assert KnownTerms().of(unknown).terms == KnownTerms().of(wire()).terms


@pytest.mark.parametrize("changes", [{"labels": {"a": "b"}}, {"queue": "q" * 255}])
def test_what_hardly_comes_again_is_not_kept(
    changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terms, "_LONGEST_KNOWN", 200)
    known = KnownTerms()
    assert known.of(wire(**changes)) is not known.of(wire(**changes))


def test_bad_terms_are_refused_each_time() -> None:
    known = KnownTerms()
    for _ in range(2):
        with pytest.raises(InvalidField):
            known.of(wire(priority=11))
