"""Terms are checked once for all tasks that share them, and the digest sees every difference."""

import re

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
        {"expires_in": Duration(seconds=1)},
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


SECOND = Duration(seconds=1)
TOO_LONG = Duration(seconds=400_000_000)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"expires_in": Duration()}, "expires_in = '0.0 s': must lie between 0.001 s and ten years"),
        ({"expires_in": Duration(seconds=-1)}, "expires_in = '-1.0 s': must lie between 0.001 s"),
        ({"expires_in": TOO_LONG}, "and ten years"),
        ({"debounce_key": "k"}, "debounce_key = 'k': needs a delay above zero"),
        ({"debounce_key": "k", "delay": Duration()}, "needs a delay above zero"),
        ({"debounce_key": "x" * 256, "delay": SECOND}, "debounce_key = "),
        ({"debounce_key": "a\0b", "delay": SECOND}, "debounce_key = "),
        ({"debounce_max_wait": SECOND, "delay": SECOND}, "is for tasks with a debounce_key"),
        (
            {"debounce_key": "k", "delay": SECOND, "debounce_max_wait": Duration(nanos=999_000_000)},
            "debounce_max_wait = '0.999 s': must lie between 1.0 s and ten years",
        ),
        ({"debounce_key": "k", "delay": SECOND, "expires_in": SECOND}, "give it or expires_in, not both"),
    ],
)
def test_times_that_cannot_be_are_refused_in_words(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidField, match=re.escape(words)):
        KnownTerms().of(wire(**changes))


def test_times_at_their_bounds_are_taken() -> None:
    extras = KnownTerms().of(wire(expires_in=Duration(nanos=1_000_000))).terms.extras
    assert extras is not None
    assert extras.expires_in_ms == 1
    wanted = wire(debounce_key="x" * 255, delay=SECOND, debounce_max_wait=SECOND)
    extras = KnownTerms().of(wanted).terms.extras
    assert extras is not None
    assert (extras.delay_ms, extras.debounce_most_ms) == (1000, 1000)
